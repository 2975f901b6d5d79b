// Granite 3: Llama with four scalars; with experts, gate and up are one tensor of all experts.
#include "hf/hf_family.h"

namespace hob {
namespace {

using enum HfDim;

void keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  k.count("rope.dimension_count", g[kHead]);
  constexpr std::pair<const char*, const char*> kScalars[] = {
      {"attention_multiplier", "attention.scale"},
      {"embedding_multiplier", "embedding_scale"},
      {"residual_multiplier", "residual_scale"},
      {"logits_scaling", "logit_scale"},
  };
  for (const auto& [from, to] : kScalars)
    if (const auto x = c.find_float(from, 1e-9, 1e9)) k.real(to, *x);
}

void moe_keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  keys(c, g, k);
  if (g[kShared] > 0) k.count("expert_shared_feed_forward_length", g[kShared]);
}

HfRules body() { return trunk_rules() + layer_norm_rules() + attention_rules(HfRows::kRotary); }

HfRules rules(const HfGeometry&) { return body() + dense_ffn_rules(HfWhen::kAlways); }

HfRules shared_rules() {
  const auto moe = HfWhen::kMoe;
  const std::string_view gate_up = "model.layers.{L}.shared_mlp.input_linear.weight";
  return {
      {"blk.{L}.ffn_gate_shexp.weight", gate_up, {kTwoShared, kModel}, moe, HfRows::kFirstHalf},
      {"blk.{L}.ffn_up_shexp.weight", gate_up, {kTwoShared, kModel}, moe, HfRows::kSecondHalf},
      {"blk.{L}.ffn_down_shexp.weight",
       "model.layers.{L}.shared_mlp.output_linear.weight",
       {kModel, kShared},
       moe},
  };
}

HfRules moe_rules(const HfGeometry& g) {
  const auto moe = HfWhen::kMoe;
  const std::string_view gate_up = "model.layers.{L}.block_sparse_moe.input_linear.weight";
  const std::array<HfDim, 4> shape{kExperts, kTwoExpertFf, kModel};
  const HfRules experts = {
      {"blk.{L}.ffn_gate_inp.weight",
       "model.layers.{L}.block_sparse_moe.router.layer.weight",
       {kExperts, kModel},
       moe},
      {"blk.{L}.ffn_gate_exps.weight", gate_up, shape, moe, HfRows::kFirstHalf},
      {"blk.{L}.ffn_up_exps.weight", gate_up, shape, moe, HfRows::kSecondHalf},
      {"blk.{L}.ffn_down_exps.weight",
       "model.layers.{L}.block_sparse_moe.output_linear.weight",
       {kExperts, kModel, kExpertFf},
       moe},
  };
  return g[kShared] > 0 ? body() + experts + shared_rules() : body() + experts;
}

}  // namespace

HfFamily hf_granite() { return {"granite", {"GraniteForCausalLM"}, "", keys, rules}; }
HfFamily hf_granitemoe() {
  return {"granitemoe",
          {"GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"},
          "",
          moe_keys,
          moe_rules};
}

}  // namespace hob
