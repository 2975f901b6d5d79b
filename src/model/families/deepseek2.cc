// DeepSeek-V2-Lite: multi-head latent attention, shared experts beside the routed ones, the first
// layers dense; and DeepSeek-MoE, the same FFN with ordinary attention.
#include <cmath>

#include "base/error.h"
#include "model/families/family.h"
#include "model/rope_cache.h"

namespace hob {
namespace {

// Widths of the routed and shared experts, and which layers have them.
MoeSpec read_experts(const SpecReader& in, const ModelSpec& s) {
  MoeSpec m = read_moe(in, {.renormalise = false, .d_expert = s.d_ff});
  const int n_shared = in.optional_int("expert_shared_count", 0, {0, kMaxExperts});
  if (n_shared > kMaxWidth / m.d_expert)
    fail(Code::kDataLoss, "[model] {}: expected at most {}, file has {}",
         in.full_key("expert_shared_count"), kMaxWidth / m.d_expert, n_shared);
  m.d_shared = n_shared * m.d_expert;
  m.n_dense_layers = in.optional_int("leading_dense_block_count", 0, {0, kMaxLayers});
  return m;
}

// Scores are compared at the width of a head, not of the latent, and YaRN sharpens them:
// Ref: arXiv 2405.04434, and mscale_all_dim of the published configuration.
float score_scale(const SpecReader& in, const ModelSpec& s) {
  const float log_multiplier = in.optional_float("rope.scaling.yarn_log_multiplier", 0.f, {0, 1e6});
  const double m =
      s.rope.scaling == RopeScaling::kYarn
          ? 1 + static_cast<double>(log_multiplier) * std::log(static_cast<double>(s.rope.factor))
          : 1;
  return static_cast<float>(m * m / std::sqrt(s.attn.d_k));
}

// On cos and sin: the quotient of two of YaRN's factors, whose m are the same in released models.
float rotation_magnitude(const SpecReader& in, const RopeSpec& rope) {
  const float given = in.optional_float("rope.scaling.attn_factor", 1.f, {1e-6, 1e6});
  const double of_scores = 10 * static_cast<double>(in.optional_float(
                                    "rope.scaling.yarn_log_multiplier", 0.f, {0, 1e6}));
  const float m = in.optional_float("rope.scaling.yarn_mscale", static_cast<float>(of_scores),
                                    {0, 1e6});  // hob's own key
  const auto factor = static_cast<double>(rope.factor);
  return given * static_cast<float>(yarn_magnitude(factor, static_cast<double>(m)) /
                                    yarn_magnitude(factor, of_scores));
}

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  if (in.optional_int("attention.q_lora_rank", 0, {0, kMaxWidth}) > 0)
    fail(Code::kUnimplemented,
         "[model] {}: expected none (DeepSeek-V2-Lite), file has one: a compressed query",
         in.full_key("attention.q_lora_rank"));
  AttnSpec& a = s.attn;
  a.d_latent = in.required_int("attention.kv_lora_rank", {1, kMaxKvWidth});
  // Where the first two describe the cache, the others are the head's.
  a.d_k = in.optional_int("attention.key_length_mla", a.d_k, {1, kMaxWidth});
  a.d_v = in.optional_int("attention.value_length_mla", a.d_v, {1, kMaxWidth});
  a.fused_latent_up = in.find_tensor("blk.0.attn_kv_b.weight") != nullptr &&
                      in.find_tensor("blk.0.attn_k_b.weight") == nullptr;
  s.rope.kind = RopeKind::kAdjacent;
  if (s.rope.d_rot >= a.d_k || a.d_latent + s.rope.d_rot > kMaxKvWidth)
    fail(Code::kDataLoss, "[model] {}: expected less than the head width {}, file has {}",
         in.full_key("rope.dimension_count"), a.d_k, s.rope.d_rot);
  if (s.rope.scaling == RopeScaling::kYarn) s.rope.magnitude = rotation_magnitude(in, s.rope);
  a.scale = score_scale(in, s);
  s.moe = read_experts(in, s);
  return s;
}

ModelSpec read_first_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.rope.kind = RopeKind::kAdjacent;
  s.moe = read_experts(in, s);
  return s;
}

}  // namespace

Family deepseek_family() {
  return {.arch = "deepseek",
          .models = "DeepSeek-MoE 16B",
          .attention = "as llama",
          .ffn = "first layers dense; shared experts; softmax",
          .read_spec = read_first_spec,
          .rules = decoder_rules};
}
Family deepseek2_family() {
  return {.arch = "deepseek2",
          .models = "DeepSeek-V2-Lite",
          .attention = "latent attention; YaRN",
          .ffn = "as deepseek; weights scaled",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
