// The keys that every family has; the names are llama.cpp's.
#include "hf/hf_family.h"
#include "hf/hf_rope.h"

namespace hob {
namespace {

constexpr HfRange kCount{0, kHfExperts.max};

void expert_keys(const HfFields& c, HfKeys& keys) {
  if (const auto n =
          c.find_int_of({"num_local_experts", "num_experts", "n_routed_experts"}, kCount);
      n.value_or(0) > 0)
    keys.count("expert_count", *n);
  if (const auto n = c.find_int_of({"num_experts_per_tok", "num_experts_per_token"}, kCount);
      n.value_or(0) > 0)
    keys.count("expert_used_count", *n);
  if (const auto n = c.find_int("n_group", kCount)) keys.count("expert_group_count", *n);
  if (const auto n = c.find_int("topk_group", kCount)) keys.count("expert_group_used_count", *n);
  const auto scoring = c.find_string("scoring_func");
  if (!scoring) return;
  if (*scoring != "softmax" && *scoring != "sigmoid")
    c.not_supported("scoring_func", "softmax or sigmoid");
  keys.count("expert_gating_func", *scoring == "softmax" ? 1 : 2);
}

void check_activation(const HfFields& c) {
  const auto name = c.find_string("hidden_act");
  if (name && *name != "silu" && *name != "swish") c.not_supported("hidden_act", "silu");
}

std::string joined(const std::string& arch, std::string_view key) {
  return arch + "." + std::string(key);
}

}  // namespace

void HfKeys::count(std::string_view key, int64_t n) {
  metadata_.set(joined(arch_, key), MetaValue(static_cast<uint64_t>(n)));
}
void HfKeys::real(std::string_view key, double x) {
  metadata_.set(joined(arch_, key), MetaValue(x));
}
void HfKeys::flag(std::string_view key, bool x) { metadata_.set(joined(arch_, key), MetaValue(x)); }
void HfKeys::text(std::string_view key, std::string x) {
  metadata_.set(joined(arch_, key), MetaValue(std::move(x)));
}
bool HfKeys::has(std::string_view key) const { return metadata_.has(joined(arch_, key)); }

void common_keys(const HfFields& c, HfKeys& keys) {
  check_activation(c);
  keys.count("block_count", c.get_int("num_hidden_layers", kHfLayers));
  keys.count("context_length", c.get_int("max_position_embeddings", kHfCtx));
  keys.count("embedding_length", c.get_int("hidden_size", kHfWidth));
  keys.count("vocab_size", c.get_int("vocab_size", kHfVocab));
  if (const auto n = c.find_int("intermediate_size", kHfWidth))
    keys.count("feed_forward_length", *n);
  const int64_t n_heads = c.get_int("num_attention_heads", kHfHeads);
  keys.count("attention.head_count", n_heads);
  keys.count("attention.head_count_kv",
             c.find_int("num_key_value_heads", kHfHeads).value_or(n_heads));
  if (const auto d = c.find_int("head_dim", kHfWidth)) {
    keys.count("attention.key_length", *d);
    keys.count("attention.value_length", *d);
  }
  if (const auto eps = c.find_float("rms_norm_eps", 0, 1))
    keys.real("attention.layer_norm_rms_epsilon", *eps);
  expert_keys(c, keys);
  rope_keys(c, keys);
}

}  // namespace hob
