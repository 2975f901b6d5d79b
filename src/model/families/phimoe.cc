// Phi-3.5-MoE as published: LayerNorm, and a router that chooses its two experts one after the
// other (SparseMixer). llama.cpp computes RMSNorm and a plain softmax over the best two: --compat
// llama.cpp.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  const bool published = in.compat() == Compat::kPublished;
  s.norm_biases = true;
  s.layer_norm = published;
  s.output_bias = in.find_tensor("output.bias") != nullptr;
  s.attn.window = in.optional_int("attention.sliding_window", 0, {0, kMaxCtx});
  s.moe = read_moe(in, {.router = published ? Router::kSparseMixer : Router::kSoftmax,
                        .renormalise = !published,
                        .d_expert = s.d_ff});
  // hob's own key; the published model has the default.
  s.moe.route.jitter = in.optional_float("router_jitter_noise", 0.01f, {0, 1});
  return s;
}

}  // namespace

Family phimoe_family() {
  return {.arch = "phimoe",
          .models = "Phi-3.5-MoE",
          .attention = "biases; LayerNorm; LongRoPE",
          .ffn = "SparseMixer: two choices one after the other",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
