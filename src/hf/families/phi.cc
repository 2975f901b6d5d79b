// Phi-3 and 3.5 (q, k, v and gate, up stay fused) and Phi-3.5-MoE (LayerNorm and biases).
#include "hf/hf_family.h"
#include "hf/hf_rope.h"

namespace hob {
namespace {

using enum HfDim;

// 0 tells readers that the model has no window; without the key they assume one.
void keys(const HfFields& c, const HfGeometry&, HfKeys& k) {
  k.count("rope.dimension_count", rotary_width(c));
  k.count("attention.sliding_window", c.find_int("sliding_window", kHfCtx).value_or(0));
  // Readers require it, scaled or not.
  const char* key = "rope.scaling.original_context_length";
  if (k.has(key)) return;
  const auto original = c.find_int("original_max_position_embeddings", kHfCtx);
  k.count(key, original.value_or(c.get_int("max_position_embeddings", kHfCtx)));
}

void moe_keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  keys(c, g, k);
  // Of SparseMixer: how close to the best an expert must be to share with it.
  if (const auto x = c.find_float("router_jitter_noise", 0, 1)) k.real("router_jitter_noise", *x);
}

HfRules phi3_rules(const HfGeometry&) {
  return trunk_rules() + layer_norm_rules() +
         HfRules{
             {"blk.{L}.attn_qkv.weight",
              "model.layers.{L}.self_attn.qkv_proj.weight",
              {kQkv, kModel}},
             {"blk.{L}.attn_output.weight",
              "model.layers.{L}.self_attn.o_proj.weight",
              {kModel, kO}},
             {"blk.{L}.ffn_up.weight",
              "model.layers.{L}.mlp.gate_up_proj.weight",
              {kTwoFf, kModel}},
             {"blk.{L}.ffn_down.weight", "model.layers.{L}.mlp.down_proj.weight", {kModel, kFf}},
         };
}

HfRules phimoe_rules(const HfGeometry&) {
  const HfRules biases = {
      {"output_norm.bias", "model.norm.bias", {kModel}},
      {"output.bias", "lm_head.bias", {kVocab}, HfWhen::kOptional},
      {"blk.{L}.attn_norm.bias", "model.layers.{L}.input_layernorm.bias", {kModel}},
      {"blk.{L}.ffn_norm.bias", "model.layers.{L}.post_attention_layernorm.bias", {kModel}},
  };
  return trunk_rules() + layer_norm_rules() + biases + attention_rules(HfRows::kAll) +
         block_sparse_expert_rules();
}

}  // namespace

HfFamily hf_phi3() { return {"phi3", {"Phi3ForCausalLM"}, "", keys, phi3_rules}; }
HfFamily hf_phimoe() {
  return {"phimoe", {"PhiMoEForCausalLM", "PhimoeForCausalLM"}, "", moe_keys, phimoe_rules};
}

}  // namespace hob
