// IBM Granite 3, dense and with experts: Llama with a scale on embeddings, attention, residuals and
// logits. Rotary pairs are adjacent, as in Llama's files.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  const auto scale = [&](std::string_view key) {
    const float value = in.optional_float(key, 0.f, {0, 1e6});
    return value == 0.f ? 1.f : value;
  };
  s.rope.kind = RopeKind::kAdjacent;
  s.attn.scale = in.optional_float("attention.scale", 0.f, {0, 1e6});
  s.embedding_scale = scale("embedding_scale");
  s.residual_scale = scale("residual_scale");
  s.logit_scale = 1.f / scale("logit_scale");
  if (in.optional_int("expert_count", 0, {0, kMaxExperts}) == 0) return s;
  s.moe = read_moe(in, {.renormalise = true, .d_expert = s.d_ff});
  s.moe.d_shared = in.optional_int("expert_shared_feed_forward_length", 0, {0, kMaxWidth});
  return s;
}

}  // namespace

Family granite_family() {
  return {.arch = "granite",
          .models = "Granite 3",
          .attention = "as llama; scores, residuals, embeddings and logits scaled",
          .ffn = "SiLU",
          .read_spec = read_spec,
          .rules = decoder_rules};
}
Family granitemoe_family() {
  return {.arch = "granitemoe",
          .models = "Granite 3 MoE",
          .attention = "as granite",
          .ffn = "softmax over the chosen; shared expert",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
