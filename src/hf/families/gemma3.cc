// Gemma 3, the language part of multimodal checkpoints too. Its norms multiply by 1 + weight; GGUF
// holds the sum.
#include <cmath>

#include "hf/hf_family.h"

namespace hob {
namespace {

using enum HfDim;
constexpr float kNormShift = 1;
constexpr int64_t kPattern = 6;  // layers: five with a window, then one without

void check_pattern(const HfFields& c) {
  for (const char* key : {"sliding_window_pattern", "_sliding_window_pattern"})
    if (c.find_int(key, kHfLayers).value_or(kPattern) != kPattern) c.not_supported(key, "6");
  const auto types = c.find_strings("layer_types");
  if (!types) return;
  for (size_t i = 0; i < types->size(); i++)
    if (((*types)[i] == "full_attention") != ((i + 1) % kPattern == 0))
      c.not_supported("layer_types", "full_attention in every sixth layer");
}

void keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  check_pattern(c);
  if (c.find_string("hidden_activation").value_or("gelu_pytorch_tanh") != "gelu_pytorch_tanh")
    c.not_supported("hidden_activation", "gelu_pytorch_tanh");
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
