// OLMoE: q and k are normalised over their full width, before they are split into heads; router
// weights as the softmax left them.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.qk_norm = QkNorm::kFullWidth;
  s.moe = read_moe(in, {.renormalise = false, .d_expert = s.d_ff});
  return s;
}

}  // namespace

Family olmoe_family() {
  return {.arch = "olmoe",
          .models = "OLMoE",
          .attention = "q and k normalised over their width",
          .ffn = "softmax, not renormalised",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
