// Qwen 1.5 to 3, dense and with experts. Rotary pairs are half a head apart on both sides.
#include "hf/hf_family.h"

namespace hob {
namespace {

using enum HfDim;

// The windows of Qwen 2 are off in every released model, and GGUF's qwen families know none.
void refuse_windows(const HfFields& c, const HfGeometry& g) {
  if (!c.flag("use_sliding_window")) return;
  if (c.find_int("max_window_layers", {0, kHfLayers.max}).value_or(0) < g.n_layers)
    c.not_supported("use_sliding_window", "false");
}

void dense_keys(const HfFields& c, const HfGeometry& g, HfKeys&) { refuse_windows(c, g); }

void moe_keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  refuse_windows(c, g);
  k.count("expert_feed_forward_length", g[kExpertFf]);
  if (g[kShared] > 0) k.count("expert_shared_feed_forward_length", g[kShared]);
}

// Readers know each family's usual way; the key is for models that depart from it.
void qwen2moe_keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  moe_keys(c, g, k);
  if (c.flag("norm_topk_prob")) k.flag("expert_weights_norm", true);
}
void qwen3moe_keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  moe_keys(c, g, k);
  if (!c.find_bool("norm_topk_prob").value_or(true)) k.flag("expert_weights_norm", false);
}

HfRules body() { return trunk_rules() + layer_norm_rules() + attention_rules(HfRows::kAll); }

HfRules shared_expert_rules() {
  const auto moe = HfWhen::kMoe;
  return {
      {"blk.{L}.ffn_gate_inp_shexp.weight",
       "model.layers.{L}.mlp.shared_expert_gate.weight",
       {kOne, kModel},
       moe},
      {"blk.{L}.ffn_gate_shexp.weight",
       "model.layers.{L}.mlp.shared_expert.gate_proj.weight",
       {kShared, kModel},
       moe},
      {"blk.{L}.ffn_up_shexp.weight",
       "model.layers.{L}.mlp.shared_expert.up_proj.weight",
       {kShared, kModel},
       moe},
      {"blk.{L}.ffn_down_shexp.weight",
       "model.layers.{L}.mlp.shared_expert.down_proj.weight",
       {kModel, kShared},
       moe},
  };
}

HfRules qwen2_rules(const HfGeometry&) { return body() + dense_ffn_rules(HfWhen::kAlways); }
HfRules qwen3_rules(const HfGeometry&) {
  return body() + head_norm_rules(kHead, kHead) + dense_ffn_rules(HfWhen::kAlways);
}
HfRules qwen2moe_rules(const HfGeometry&) {
  return body() + mlp_expert_rules() + shared_expert_rules();
}
HfRules qwen3moe_rules(const HfGeometry&) {
  return body() + head_norm_rules(kHead, kHead) + mlp_expert_rules();
}

}  // namespace

HfFamily hf_qwen2() { return {"qwen2", {"Qwen2ForCausalLM"}, "", dense_keys, qwen2_rules}; }
HfFamily hf_qwen3() { return {"qwen3", {"Qwen3ForCausalLM"}, "", dense_keys, qwen3_rules}; }
HfFamily hf_qwen2moe() {
  return {"qwen2moe", {"Qwen2MoeForCausalLM"}, "", qwen2moe_keys, qwen2moe_rules};
}
HfFamily hf_qwen3moe() {
  return {"qwen3moe", {"Qwen3MoeForCausalLM"}, "", qwen3moe_keys, qwen3moe_rules};
}

}  // namespace hob
