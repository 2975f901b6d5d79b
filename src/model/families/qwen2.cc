// Qwen 1.5, 2 and 2.5, dense: biases on q, k and v.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.bias_qkv = true;
  return s;
}

}  // namespace

Family qwen2_family() {
  return {.arch = "qwen2",
          .models = "Qwen 1.5 to 2.5",
          .attention = "biases on q, k, v",
          .ffn = "SiLU",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
