// Gemma 3, the language part of multimodal checkpoints too. Its norms multiply by 1 + weight; GGUF
// holds the sum.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "hf/hf_family.h"

namespace hob {
namespace {

using enum HfDim;
constexpr float kNormShift = 1;
constexpr int64_t kUsualPeriod = 6;  // layers: five with a window, then one without

// Every how many layers one has no window.
int64_t period_of(const HfFields& c) {
  const auto types = c.find_strings("layer_types").value_or(std::vector<std::string>{});
  const auto full = std::ranges::find(types, "full_attention");
  const int64_t by_types = full == types.end() ? kUsualPeriod : full - types.begin() + 1;
  const int64_t period =
      c.find_int_of({"sliding_window_pattern", "_sliding_window_pattern"}, kHfLayers)
          .value_or(by_types);
  for (size_t i = 0; i < types.size(); i++)
    if ((types[i] == "full_attention") != ((i + 1) % static_cast<size_t>(period) == 0))
      c.not_supported("layer_types", fmt::format("one full_attention every {} layers", period));
  return period;
}

void keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  if (const int64_t period = period_of(c); period != kUsualPeriod)
    k.count("attention.sliding_window_pattern", period);
  if (c.find_string("hidden_activation").value_or("gelu_pytorch_tanh") != "gelu_pytorch_tanh")
    c.not_supported("hidden_activation", "gelu_pytorch_tanh");
  k.text("ffn_activation", "gelu_tanh");
  if (c.has("attn_logit_softcapping")) c.not_supported("attn_logit_softcapping", "none");
  if (const auto cap = c.find_float("final_logit_softcapping", 1e-6, 1e6))
    k.real("final_logit_softcapping", *cap);
  k.count("attention.sliding_window", c.get_int("sliding_window", kHfCtx));
  const double scaled = c.get_float("query_pre_attn_scalar", 1e-6, 1e9);
  if (scaled != static_cast<double>(g[kHead])) k.real("attention.scale", 1 / std::sqrt(scaled));
}

HfRules rules(const HfGeometry&) {
  HfRules norms = {
      {"blk.{L}.attn_norm.weight", "model.layers.{L}.input_layernorm.weight", {kModel}},
      {"blk.{L}.post_attention_norm.weight",
       "model.layers.{L}.post_attention_layernorm.weight",
       {kModel}},
      {"blk.{L}.ffn_norm.weight", "model.layers.{L}.pre_feedforward_layernorm.weight", {kModel}},
      {"blk.{L}.post_ffw_norm.weight",
       "model.layers.{L}.post_feedforward_layernorm.weight",
       {kModel}},
  };
  for (HfRule& rule : norms) rule.shift = kNormShift;
  return trunk_rules(kNormShift) + norms + attention_rules(HfRows::kAll) +
         head_norm_rules(kHead, kHead, kNormShift) + dense_ffn_rules(HfWhen::kAlways);
}

}  // namespace

HfFamily hf_gemma3() {
  // The defaults of transformers' Gemma3TextConfig: multimodal checkpoints leave them out.
  return {"gemma3",
          {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"},
          R"({"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4,
              "head_dim": 256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
              "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 4096,
              "query_pre_attn_scalar": 256, "tie_word_embeddings": true})",
          keys,
          rules};
}

}  // namespace hob
