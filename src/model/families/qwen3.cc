// Qwen 3, dense: q and k are normalised per head before the rotation.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.qk_norm = QkNorm::kPerHead;
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

Family qwen3_family() { return {"qwen3", read_spec, rules}; }

}  // namespace hob
