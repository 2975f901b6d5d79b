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

std::vector<TensorRule> rules(const ModelSpec& s) {
  RuleList list(s);
  list.trunk();
  for (int layer = 0; layer < s.n_layers; layer++) {
    list.attention(layer);
    list.experts(layer);
  }
  return list.take();
}

}  // namespace

Family olmoe_family() { return {"olmoe", read_spec, rules}; }

}  // namespace hob
