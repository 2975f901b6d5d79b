// gpt-oss: every other layer sees a window; attention sinks; biases everywhere; the router's
// softmax is over the chosen experts; a clamped gate.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.sinks = true;
  s.attn.window = in.optional_int("attention.sliding_window", 0, {0, kMaxCtx});
  s.attn.global_every = in.optional_int("attention.sliding_window_pattern", 2, {1, kMaxLayers});
  // As published, between pairs; llama.cpp rounds.
  s.rope.yarn_whole_pairs = in.metadata()
                                .find_bool(in.full_key("rope.scaling.yarn_truncate"))
                                .value_or(in.compat() == Compat::kLlamaCpp);
  s.ffn_norm = "post_attention_norm";
  s.ffn_unit = GatedUnit::kClampedSilu;
  s.moe = read_moe(in, {.router = Router::kSoftmaxOfChosen, .d_expert = s.d_ff});
  s.moe.biases = true;
  return s;
}

}  // namespace

Family gpt_oss_family() {
  return {.arch = "gpt-oss",
          .models = "gpt-oss-20b, gpt-oss-120b",
          .attention = "sinks; every other layer sees a window; biases; YaRN",
          .ffn = "softmax over the chosen; clamped gate; biases; MXFP4",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
