// What most families have in common.
#include "hf/hf_family.h"

namespace hob {

using enum HfDim;

HfRules operator+(HfRules a, const HfRules& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

HfRules trunk_rules(float norm_shift) {
  return {
      {"token_embd.weight", "model.embed_tokens.weight", {kVocab, kModel}},
      {.gguf = "output_norm.weight",
       .hf = "model.norm.weight",
       .shape = {kModel},
       .shift = norm_shift},
      {"output.weight", "lm_head.weight", {kVocab, kModel}, HfWhen::kHead},
  };
}

HfRules layer_norm_rules() {
  return {
      {"blk.{L}.attn_norm.weight", "model.layers.{L}.input_layernorm.weight", {kModel}},
      {"blk.{L}.ffn_norm.weight", "model.layers.{L}.post_attention_layernorm.weight", {kModel}},
  };
}

HfRules attention_rules(HfRows q_and_k) {
  const auto optional = HfWhen::kOptional;
  const auto always = HfWhen::kAlways;
  return {
      {"blk.{L}.attn_q.weight",
       "model.layers.{L}.self_attn.q_proj.weight",
       {kQ, kModel},
       always,
       q_and_k},
      {"blk.{L}.attn_q.bias", "model.layers.{L}.self_attn.q_proj.bias", {kQ}, optional, q_and_k},
      {"blk.{L}.attn_k.weight",
       "model.layers.{L}.self_attn.k_proj.weight",
       {kKv, kModel},
       always,
       q_and_k},
      {"blk.{L}.attn_k.bias", "model.layers.{L}.self_attn.k_proj.bias", {kKv}, optional, q_and_k},
      {"blk.{L}.attn_v.weight", "model.layers.{L}.self_attn.v_proj.weight", {kKv, kModel}},
      {"blk.{L}.attn_v.bias", "model.layers.{L}.self_attn.v_proj.bias", {kKv}, optional},
      {"blk.{L}.attn_output.weight", "model.layers.{L}.self_attn.o_proj.weight", {kModel, kO}},
      {"blk.{L}.attn_output.bias", "model.layers.{L}.self_attn.o_proj.bias", {kModel}, optional},
  };
}

HfRules head_norm_rules(HfDim q, HfDim k, float norm_shift) {
  return {
      {.gguf = "blk.{L}.attn_q_norm.weight",
       .hf = "model.layers.{L}.self_attn.q_norm.weight",
       .shape = {q},
       .shift = norm_shift},
      {.gguf = "blk.{L}.attn_k_norm.weight",
       .hf = "model.layers.{L}.self_attn.k_norm.weight",
       .shape = {k},
       .shift = norm_shift},
  };
}

HfRules dense_ffn_rules(HfWhen when) {
  const auto optional = HfWhen::kOptional;
  return {
      {"blk.{L}.ffn_gate.weight", "model.layers.{L}.mlp.gate_proj.weight", {kFf, kModel}, when},
      {"blk.{L}.ffn_gate.bias", "model.layers.{L}.mlp.gate_proj.bias", {kFf}, optional},
      {"blk.{L}.ffn_up.weight", "model.layers.{L}.mlp.up_proj.weight", {kFf, kModel}, when},
      {"blk.{L}.ffn_up.bias", "model.layers.{L}.mlp.up_proj.bias", {kFf}, optional},
      {"blk.{L}.ffn_down.weight", "model.layers.{L}.mlp.down_proj.weight", {kModel, kFf}, when},
      {"blk.{L}.ffn_down.bias", "model.layers.{L}.mlp.down_proj.bias", {kModel}, optional},
  };
}

HfRules mlp_expert_rules() {
  const auto moe = HfWhen::kMoe;
  const HfRules per_expert = {
      {"blk.{L}.ffn_gate_inp.weight", "model.layers.{L}.mlp.gate.weight", {kExperts, kModel}, moe},
      {"blk.{L}.ffn_gate_exps.weight",
       "model.layers.{L}.mlp.experts.{E}.gate_proj.weight",
       {kExpertFf, kModel},
       moe},
      {"blk.{L}.ffn_up_exps.weight",
       "model.layers.{L}.mlp.experts.{E}.up_proj.weight",
       {kExpertFf, kModel},
       moe},
      {"blk.{L}.ffn_down_exps.weight",
       "model.layers.{L}.mlp.experts.{E}.down_proj.weight",
       {kModel, kExpertFf},
       moe},
  };
  // transformers 5 keeps a layer's experts in one tensor, gate above up.
  const std::string_view fused = "model.layers.{L}.mlp.experts.gate_up_proj";
  return per_expert + HfRules{
                          {"blk.{L}.ffn_gate_exps.weight",
                           fused,
                           {kExperts, kTwoExpertFf, kModel},
                           moe,
                           HfRows::kFirstHalf},
                          {"blk.{L}.ffn_up_exps.weight",
                           fused,
                           {kExperts, kTwoExpertFf, kModel},
                           moe,
                           HfRows::kSecondHalf},
                          {"blk.{L}.ffn_down_exps.weight",
                           "model.layers.{L}.mlp.experts.down_proj",
                           {kExperts, kModel, kExpertFf},
                           moe},
                      };
}

HfRules block_sparse_expert_rules() {
  const auto moe = HfWhen::kMoe;
  return {
      {"blk.{L}.ffn_gate_inp.weight",
       "model.layers.{L}.block_sparse_moe.gate.weight",
       {kExperts, kModel},
       moe},
      {"blk.{L}.ffn_gate_exps.weight",
       "model.layers.{L}.block_sparse_moe.experts.{E}.w1.weight",
       {kExpertFf, kModel},
       moe},
      {"blk.{L}.ffn_up_exps.weight",
       "model.layers.{L}.block_sparse_moe.experts.{E}.w3.weight",
       {kExpertFf, kModel},
       moe},
      {"blk.{L}.ffn_down_exps.weight",
       "model.layers.{L}.block_sparse_moe.experts.{E}.w2.weight",
       {kModel, kExpertFf},
       moe},
  };
}

}  // namespace hob
