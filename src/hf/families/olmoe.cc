// OLMoE: q and k are normalised over their full width.
#include "hf/hf_family.h"

namespace hob {
namespace {

void keys(const HfFields& c, const HfGeometry&, HfKeys& k) {
  if (c.has("clip_qkv")) c.not_supported("clip_qkv", "none");
  if (c.flag("norm_topk_prob")) k.flag("expert_weights_norm", true);
  if (!c.has("rms_norm_eps")) k.real("attention.layer_norm_rms_epsilon", 1e-5);
}

HfRules rules(const HfGeometry&) {
  return trunk_rules() + layer_norm_rules() + attention_rules(HfRows::kAll) +
         head_norm_rules(HfDim::kQ, HfDim::kKv) + mlp_expert_rules();
}

}  // namespace

HfFamily hf_olmoe() { return {"olmoe", {"OlmoeForCausalLM"}, "", keys, rules}; }

}  // namespace hob
