// DeepSeek-MoE (plain attention) and DeepSeek-V2 (multi-head latent attention): leading dense
// layers, then experts with shared ones beside them.
#include "hf/hf_family.h"

namespace hob {
namespace {

using enum HfDim;

void expert_keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  constexpr HfRange kCount{0, kHfExperts.max};
  k.count("leading_dense_block_count", g.n_leading_dense);
  k.count("expert_feed_forward_length", g[kExpertFf]);
  k.count("expert_shared_count", c.find_int("n_shared_experts", kCount).value_or(0));
}

void deepseek_keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  expert_keys(c, g, k);
  k.count("rope.dimension_count", g[kHead]);
  if (!k.has("rope.scaling.type")) k.text("rope.scaling.type", "none");
  k.real("expert_weights_scale", 1);
  if (c.flag("norm_topk_prob")) k.flag("expert_weights_norm", true);
}

// The keys describe the latent form: one key head of the latent and the rotary part together.
void deepseek2_keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  expert_keys(c, g, k);
  const int64_t d_rope = g[kKvA] - g[kKvRank];
  k.count("attention.head_count_kv", 1);
  if (g[kQRank] > 0) k.count("attention.q_lora_rank", g[kQRank]);
  k.count("attention.kv_lora_rank", g[kKvRank]);
  k.count("attention.key_length", g[kKvA]);
  k.count("attention.value_length", g[kKvRank]);
  k.count("attention.key_length_mla", g[kHead]);
  k.count("attention.value_length_mla", g.d_v);
  k.count("rope.dimension_count", d_rope);
  if (const auto scale = c.find_float("routed_scaling_factor", 1e-6, 1e6))
    k.real("expert_weights_scale", *scale);
  if (c.flag("norm_topk_prob")) k.flag("expert_weights_norm", true);
  if (!c.has("rms_norm_eps")) k.real("attention.layer_norm_rms_epsilon", 1e-6);
}

HfRules shared_expert_rules() {
  const auto moe = HfWhen::kMoe;
  return {
      {"blk.{L}.ffn_gate_shexp.weight",
       "model.layers.{L}.mlp.shared_experts.gate_proj.weight",
       {kShared, kModel},
       moe},
      {"blk.{L}.ffn_up_shexp.weight",
       "model.layers.{L}.mlp.shared_experts.up_proj.weight",
       {kShared, kModel},
       moe},
      {"blk.{L}.ffn_down_shexp.weight",
       "model.layers.{L}.mlp.shared_experts.down_proj.weight",
       {kModel, kShared},
       moe},
  };
}

HfRules query_rules(const HfGeometry& g) {
  if (g[kQRank] == 0)
    return {{"blk.{L}.attn_q.weight", "model.layers.{L}.self_attn.q_proj.weight", {kQ, kModel}}};
  return {
      {"blk.{L}.attn_q_a.weight", "model.layers.{L}.self_attn.q_a_proj.weight", {kQRank, kModel}},
      {"blk.{L}.attn_q_a_norm.weight", "model.layers.{L}.self_attn.q_a_layernorm.weight", {kQRank}},
      {"blk.{L}.attn_q_b.weight", "model.layers.{L}.self_attn.q_b_proj.weight", {kQ, kQRank}},
  };
}

// kv_b_proj in two: keys transposed, so that both absorb into a product with the latent.
HfRules latent_rules() {
  const auto always = HfWhen::kAlways;
  const std::string_view kv_b = "model.layers.{L}.self_attn.kv_b_proj.weight";
  return {
      {"blk.{L}.attn_kv_a_mqa.weight",
       "model.layers.{L}.self_attn.kv_a_proj_with_mqa.weight",
       {kKvA, kModel}},
      {"blk.{L}.attn_kv_a_norm.weight",
       "model.layers.{L}.self_attn.kv_a_layernorm.weight",
       {kKvRank}},
      {"blk.{L}.attn_k_b.weight", kv_b, {kKvB, kKvRank}, always, HfRows::kMlaKeys},
      {"blk.{L}.attn_v_b.weight", kv_b, {kKvB, kKvRank}, always, HfRows::kMlaValues},
      {"blk.{L}.attn_output.weight", "model.layers.{L}.self_attn.o_proj.weight", {kModel, kO}},
  };
}

HfRules ffn_rules(const HfGeometry& g) {
  const HfRules rules = dense_ffn_rules(HfWhen::kDense) + mlp_expert_rules();
  return g[kShared] > 0 ? rules + shared_expert_rules() : rules;
}

HfRules deepseek_rules(const HfGeometry& g) {
  return trunk_rules() + layer_norm_rules() + attention_rules(HfRows::kRotary) + ffn_rules(g);
}
HfRules deepseek2_rules(const HfGeometry& g) {
  return trunk_rules() + layer_norm_rules() + query_rules(g) + latent_rules() + ffn_rules(g);
}

}  // namespace

HfFamily hf_deepseek() {
  return {"deepseek", {"DeepseekForCausalLM"}, "", deepseek_keys, deepseek_rules};
}
HfFamily hf_deepseek2() {
  return {"deepseek2", {"DeepseekV2ForCausalLM"}, "", deepseek2_keys, deepseek2_rules};
}

}  // namespace hob
