// Qwen 1.5, 2 and 2.5, dense: biases on q, k and v.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.bias_qkv = true;
  return s;
}

std::vector<TensorRule> rules(const ModelSpec& s) {
  RuleList list(s);
  list.trunk();
  for (int layer = 0; layer < s.n_layers; layer++) {
    list.attention(layer);
    list.dense_ffn(layer);
  }
  return list.take();
}

}  // namespace

Family qwen2_family() { return {"qwen2", read_spec, rules}; }

}  // namespace hob
