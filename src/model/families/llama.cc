// Llama 1-3, Mistral and everything that converts to their names; with experts: Mixtral.
// Rotary pairs are adjacent: the converter permutes the rows of q and k.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.rope.kind = RopeKind::kAdjacent;
  s.attn.window = in.optional_int("attention.sliding_window", 0, {0, kMaxCtx});  // Mistral 7B v0.1
  if (in.optional_int("expert_count", 0, {0, kMaxExperts}) > 0)
    s.moe = read_moe(in, {.renormalise = true, .d_expert = s.d_ff});
  return s;
}

std::vector<TensorRule> rules(const ModelSpec& s) {
  RuleList list(s);
  list.decoder();
  list.rope_freqs();
  return list.take();
}

}  // namespace

Family llama_family() {
  return {.arch = "llama",
          .models = "Llama 1 to 3, Mistral, SmolLM; Mixtral",
          .attention = "grouped heads, adjacent rotary pairs; window; frequency divisors",
          .ffn = "SiLU; softmax, the best renormalised",
          .read_spec = read_spec,
          .rules = rules};
}

}  // namespace hob
