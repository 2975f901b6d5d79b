#include "model/spec_reader.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/rope_cache.h"

namespace hob {
namespace {

int checked_int(const std::string& key, uint64_t value, IntRange range) {
  if (value < static_cast<uint64_t>(range.min) || value > static_cast<uint64_t>(range.max))
    fail(Code::kDataLoss, "[model] {}: expected {} to {}, file has {}", key, range.min, range.max,
         value);
  return static_cast<int>(value);
}

float checked_float(const std::string& key, double value, FloatRange range) {
  if (!(value >= range.min && value <= range.max))  // also refuses NaN
    fail(Code::kDataLoss, "[model] {}: expected {} to {}, file has {}", key, range.min, range.max,
         value);
  return static_cast<float>(value);
}

AttnSpec read_attention(const SpecReader& in, int d_model) {
  AttnSpec a;
  a.n_heads = in.required_int("attention.head_count", {1, kMaxHeads});
  a.n_kv_heads = in.optional_int("attention.head_count_kv", a.n_heads, {1, kMaxHeads});
  if (a.n_heads % a.n_kv_heads != 0)
    fail(Code::kDataLoss, "[model] {}: expected a divisor of the {} query heads, file has {}",
         in.full_key("attention.head_count_kv"), a.n_heads, a.n_kv_heads);
  const bool derived = !in.metadata().has(in.full_key("attention.key_length")) ||
                       !in.metadata().has(in.full_key("attention.value_length"));
  if (derived && d_model % a.n_heads != 0)
    fail(Code::kDataLoss, "[model] {}: expected a divisor of the width {}, file has {}",
         in.full_key("attention.head_count"), d_model, a.n_heads);
  a.d_k = in.optional_int("attention.key_length", d_model / a.n_heads, {1, kMaxWidth});
  a.d_v = in.optional_int("attention.value_length", d_model / a.n_heads, {1, kMaxWidth});
  for (const auto& [key, d] :
       {std::pair{"attention.key_length", a.d_k}, {"attention.value_length", a.d_v}})
    if (static_cast<int64_t>(a.n_heads) * d > kMaxWidth)
      fail(Code::kDataLoss, "[model] {}: expected at most {} for {} heads, file has {}",
           in.full_key(key), kMaxWidth / a.n_heads, a.n_heads, d);
  a.bias_qkv = in.find_tensor("blk.0.attn_q.bias") != nullptr;
  a.bias_o = in.find_tensor("blk.0.attn_output.bias") != nullptr;
  return a;
}

void read_yarn(const SpecReader& in, int n_ctx_train, RopeSpec& r) {
  r.scaling = RopeScaling::kYarn;
  r.original_ctx =
      in.optional_int("rope.scaling.original_context_length", n_ctx_train, {1, kMaxCtx});
  r.magnitude = in.optional_float("rope.scaling.attn_factor", 1.f, {1e-6, 1e6}) *
                static_cast<float>(yarn_magnitude(static_cast<double>(r.factor), 1));
  r.beta_fast = in.optional_float("rope.scaling.yarn_beta_fast", 32.f, {1e-6, 1e6});
  r.beta_slow = in.optional_float("rope.scaling.yarn_beta_slow", 1.f, {1e-6, 1e6});
  r.yarn_whole_pairs =  // hob's own key
      in.metadata().find_bool(in.full_key("rope.scaling.yarn_truncate")).value_or(true);
  if (r.theta <= 1.f)
    fail(Code::kDataLoss, "[model] {}: expected more than 1 with YaRN, file has {}",
         in.full_key("rope.freq_base"), r.theta);
  // Both change the numbers, and no other model of the supported families uses them: refuse rather
  // than be quietly wrong.
  if (in.arch() != "deepseek2" &&
      in.optional_float("rope.scaling.yarn_log_multiplier", 0.f, {-1e6, 1e6}) != 0.f)
    fail(Code::kUnimplemented, "[model] {}: expected 0, file has another value",
         in.full_key("rope.scaling.yarn_log_multiplier"));
  const float ext = in.optional_float("rope.scaling.yarn_ext_factor", 1.f, {-1e6, 1e6});
  if (ext >= 0.f && ext != 1.f)
    fail(Code::kUnimplemented, "[model] {}: expected 1, file has {}",
         in.full_key("rope.scaling.yarn_ext_factor"), ext);
}

// Two sets of divisors, for short and for long contexts. Ref: LongRoPE, arXiv 2402.13753.
void read_long_rope(const SpecReader& in, int n_ctx_train, RopeSpec& r) {
  r.scaling = RopeScaling::kLongRope;
  r.original_ctx =
      in.optional_int("rope.scaling.original_context_length", n_ctx_train, {1, kMaxCtx});
  // The published formula; files usually name the value.
  const double ratio = static_cast<double>(n_ctx_train) / r.original_ctx;
  const double usual = ratio > 1 ? std::sqrt(1 + std::log(ratio) / std::log(r.original_ctx)) : 1.0;
  r.magnitude =
      in.optional_float("rope.scaling.attn_factor", static_cast<float>(usual), {1e-6, 1e6});
  // hob's own key, for models whose two sets have magnitudes of their own (Phi-3.5-MoE).
  r.long_magnitude = in.optional_float("rope.scaling.attn_factor_long", r.magnitude, {1e-6, 1e6});
}

RopeSpec read_rope(const SpecReader& in, int d_k, int n_ctx_train) {
  RopeSpec r;
  r.d_rot = in.optional_int("rope.dimension_count", d_k, {2, kMaxWidth});
  if (r.d_rot % 2 != 0 || r.d_rot > d_k)
    fail(Code::kDataLoss,
         "[model] {}: expected an even number up to the head width {}, file has {}",
         in.full_key("rope.dimension_count"), d_k, r.d_rot);
  r.theta = in.optional_float("rope.freq_base", 10000.f, {1e-3, 1e15});
  // The old key had only a factor, and meant linear scaling.
  const float old_factor = in.optional_float("rope.scale_linear", 0.f, {0, 1e6});
  const float factor = in.optional_float("rope.scaling.factor", old_factor, {0, 1e6});
  r.factor = factor == 0.f ? 1.f : factor;
  const std::string type =
      in.metadata().find_string(in.full_key("rope.scaling.type")).value_or("linear");
  if (type == "longrope" || in.find_tensor("rope_factors_long.weight"))
    read_long_rope(in, n_ctx_train, r);
  else if (type == "yarn")
    read_yarn(in, n_ctx_train, r);
  else if (type == "linear")
    r.scaling = r.factor == 1.f ? RopeScaling::kNone : RopeScaling::kLinear;
  else if (type != "none")
    fail(Code::kUnimplemented,
         "[model] {}: expected none, linear, yarn or longrope, file has \"{}\"",
         in.full_key("rope.scaling.type"), type);
  if (r.scaling == RopeScaling::kNone) r.factor = 1.f;
  return r;
}

// The tokenizer's list is what ids come from; the embedding must have a row for each (bind checks
// it).
int read_n_vocab(const SpecReader& in) {
  constexpr int64_t kMaxVocab = 1 << 26;
  if (const auto* tokens = in.metadata().find_strings("tokenizer.ggml.tokens"))
    return checked_int("tokenizer.ggml.tokens", tokens->size(), {1, kMaxVocab});
  if (in.metadata().has(in.full_key("vocab_size")))
    return in.required_int("vocab_size", {1, kMaxVocab});
  const RawTensor* embd = in.find_tensor("token_embd.weight");
  if (!embd || embd->shape.n_dims != 2)
    fail(Code::kDataLoss, "[model] token_embd.weight: expected a matrix, file has {}",
         embd ? embd->shape.str() : "none");
  return checked_int("rows of token_embd.weight", static_cast<uint64_t>(embd->shape[0]),
                     {1, kMaxVocab});
}

}  // namespace

int SpecReader::required_int(std::string_view key, IntRange range) const {
  const std::string full = full_key(key);
  return checked_int(full, metadata_.get_uint(full), range);
}

int SpecReader::optional_int(std::string_view key, int fallback, IntRange range) const {
  const std::string full = full_key(key);
  const std::optional<uint64_t> value = metadata_.find_uint(full);
  return value ? checked_int(full, *value, range) : fallback;
}

float SpecReader::required_float(std::string_view key, FloatRange range) const {
  const std::string full = full_key(key);
  return checked_float(full, metadata_.get_float(full), range);
}

float SpecReader::optional_float(std::string_view key, float fallback, FloatRange range) const {
  const std::string full = full_key(key);
  const std::optional<double> value = metadata_.find_float(full);
  return value ? checked_float(full, *value, range) : fallback;
}

const RawTensor* SpecReader::find_tensor(std::string_view name) const {
  const auto it = std::find_if(tensors_.begin(), tensors_.end(),
                               [&](const RawTensor& t) { return t.name == name; });
  return it == tensors_.end() ? nullptr : &*it;
}

bool SpecReader::has_tensor_ending(std::string_view suffix) const {
  return std::any_of(tensors_.begin(), tensors_.end(),
                     [&](const RawTensor& t) { return t.name.ends_with(suffix); });
}

ModelSpec read_trunk(const SpecReader& in) {
  ModelSpec s;
  s.arch = in.arch();
  s.family = in.arch();
  s.name = in.metadata().find_string("general.name").value_or("");
  s.n_layers = in.required_int("block_count", {1, kMaxLayers});
  s.d_model = in.required_int("embedding_length", {1, kMaxWidth});
  s.n_ctx_train = in.required_int("context_length", {1, kMaxCtx});
  s.d_ff = in.optional_int("feed_forward_length", 0, {0, kMaxWidth});
  s.norm_eps = in.required_float("attention.layer_norm_rms_epsilon", {0, 1});
  s.attn = read_attention(in, s.d_model);
  s.rope = read_rope(in, s.attn.d_k, s.n_ctx_train);
  s.n_vocab = read_n_vocab(in);
  s.tied_embeddings = in.find_tensor("output.weight") == nullptr;
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"})  // Gemma 2
    if (in.optional_float(key, 0.f, {-1e6, 1e6}) != 0.f)
      fail(Code::kUnimplemented, "[model] {}: expected none, file has one", in.full_key(key));
  const bool has_experts = in.optional_int("expert_count", 0, {0, kMaxExperts}) > 0;
  if (!has_experts && in.has_tensor_ending("_exps.weight"))
    fail(Code::kDataLoss,
         "[model] {}: expected at least 1 (the file has expert tensors), file has 0",
         in.full_key("expert_count"));
  if (!has_experts && s.d_ff == 0)
    fail(Code::kDataLoss, "[model] {}: expected 1 to {}, file has none",
         in.full_key("feed_forward_length"), kMaxWidth);
  return s;
}

MoeSpec read_moe(const SpecReader& in, const MoeDefaults& defaults) {
  MoeSpec m;
  m.n_experts = in.required_int("expert_count", {1, kMaxExperts});
  m.top_k = in.required_int("expert_used_count", {1, kMaxExperts});
  if (m.top_k > m.n_experts)
    fail(Code::kDataLoss, "[model] {}: expected at most the {} experts, file has {}",
         in.full_key("expert_used_count"), m.n_experts, m.top_k);
  m.d_expert = in.optional_int("expert_feed_forward_length", defaults.d_expert, {1, kMaxWidth});
  if (m.d_expert < 1)
    fail(Code::kDataLoss, "[model] {}: expected 1 to {}, file has none",
         in.full_key("expert_feed_forward_length"), kMaxWidth);
  m.route.kind = defaults.router;
  m.route.k = m.top_k;
  m.route.renormalise =
      in.metadata().find_bool(in.full_key("expert_weights_norm")).value_or(defaults.renormalise);
  // Router variants of families that are not in the table: refuse rather than be quietly wrong.
  const int usual = defaults.router == Router::kSoftmaxOfChosen ? 3 : 1;
  const int kind = in.optional_int("expert_gating_func", usual, {0, 255});
  if (kind != 0 && kind != usual)
    fail(Code::kUnimplemented, "[model] {}: expected {} ({}), file has {}",
         in.full_key("expert_gating_func"), usual,
         usual == 1 ? "softmax" : "softmax over the chosen ones", kind);
  if (in.optional_int("expert_group_count", 1, {0, kMaxExperts}) > 1)
    fail(Code::kUnimplemented, "[model] {}: expected at most 1, file has more",
         in.full_key("expert_group_count"));
  const float scale = in.optional_float("expert_weights_scale", 1.f, {-1e6, 1e6});
  m.route.scale = scale == 0.f ? 1.f : scale;  // 0: llama.cpp's "none"
  return m;
}

}  // namespace hob
