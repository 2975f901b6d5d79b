// gpt-oss: biases everywhere, attention sinks, experts in MXFP4 with the rows of gate and up taking
// turns.
#include "hf/hf_family.h"

namespace hob {
namespace {

using enum HfDim;
constexpr auto kMoe = HfWhen::kMoe;

void keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  k.count("attention.sliding_window", c.get_int("sliding_window", kHfCtx));
  k.count("expert_feed_forward_length", g[kExpertFf]);
  if (c.find_float("swiglu_limit").value_or(7) != 7) c.not_supported("swiglu_limit", "7");
  const auto types = c.find_strings("layer_types").value_or(std::vector<std::string>{});
  for (size_t i = 0; i < types.size(); i++)
    if ((types[i] == "full_attention") != (i % 2 == 1))
      c.not_supported("layer_types", "full_attention in every second layer");
}

HfRules expert_rules() {
  const std::string_view gate_up = "model.layers.{L}.mlp.experts.gate_up_proj";
  const std::string_view down = "model.layers.{L}.mlp.experts.down_proj";
  const std::string_view gate_out = "blk.{L}.ffn_gate_exps.weight";
  const std::string_view up_out = "blk.{L}.ffn_up_exps.weight";
  const std::string_view down_out = "blk.{L}.ffn_down_exps.weight";
  const std::array<HfDim, 4> blocks{kExperts, kTwoExpertFf, kModelBlocks, kBlockBytes};
  const std::array<HfDim, 4> plain{kExperts, kModel, kTwoExpertFf};
  return {
      {.gguf = gate_out,
       .hf = gate_up,
       .shape = blocks,
       .when = kMoe,
       .rows = HfRows::kEven,
       .mxfp4 = true},
      {.gguf = up_out,
       .hf = gate_up,
       .shape = blocks,
       .when = kMoe,
       .rows = HfRows::kOdd,
       .mxfp4 = true},
      {.gguf = down_out,
       .hf = down,
       .shape = {kExperts, kModel, kExpertFfBlocks, kBlockBytes},
       .when = kMoe,
       .mxfp4 = true},
      // Fine-tuned and unpacked: plain matrices, input rows first.
      {.gguf = gate_out,
       .hf = gate_up,
       .shape = plain,
       .when = kMoe,
       .rows = HfRows::kEven,
       .transposed = true},
      {.gguf = up_out,
       .hf = gate_up,
       .shape = plain,
       .when = kMoe,
       .rows = HfRows::kOdd,
       .transposed = true},
      {.gguf = down_out,
       .hf = down,
       .shape = {kExperts, kExpertFf, kModel},
       .when = kMoe,
       .transposed = true},
  };
}

HfRules rules(const HfGeometry&) {
  const std::string_view gate_up_bias = "model.layers.{L}.mlp.experts.gate_up_proj_bias";
  const HfRules rest = {
      {"blk.{L}.attn_norm.weight", "model.layers.{L}.input_layernorm.weight", {kModel}},
      {"blk.{L}.post_attention_norm.weight",
       "model.layers.{L}.post_attention_layernorm.weight",
       {kModel}},
      {"blk.{L}.attn_sinks.weight", "model.layers.{L}.self_attn.sinks", {kHeads}},
      {"blk.{L}.ffn_gate_inp.weight", "model.layers.{L}.mlp.router.weight", {kExperts, kModel}},
      {"blk.{L}.ffn_gate_inp.bias", "model.layers.{L}.mlp.router.bias", {kExperts}},
      {"blk.{L}.ffn_gate_exps.bias", gate_up_bias, {kExperts, kTwoExpertFf}, kMoe, HfRows::kEven},
      {"blk.{L}.ffn_up_exps.bias", gate_up_bias, {kExperts, kTwoExpertFf}, kMoe, HfRows::kOdd},
      {"blk.{L}.ffn_down_exps.bias",
       "model.layers.{L}.mlp.experts.down_proj_bias",
       {kExperts, kModel},
       kMoe},
  };
  return trunk_rules() + attention_rules(HfRows::kAll) + rest + expert_rules();
}

}  // namespace

HfFamily hf_gpt_oss() { return {"gpt-oss", {"GptOssForCausalLM"}, "", keys, rules}; }

}  // namespace hob
