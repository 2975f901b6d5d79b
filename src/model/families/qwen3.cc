// Qwen 3, dense: q and k are normalised per head before the rotation.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.qk_norm = QkNorm::kPerHead;
  return s;
}

}  // namespace

Family qwen3_family() {
  return {.arch = "qwen3",
          .models = "Qwen 3",
          .attention = "q and k normalised per head",
          .ffn = "SiLU",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
