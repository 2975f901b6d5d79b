// Qwen3-30B-A3B and relatives: q and k normalised per head, router weights renormalised over the
// chosen experts.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.qk_norm = QkNorm::kPerHead;
  const int top_k = in.required_int("expert_used_count", {1, kMaxExperts});
  s.moe = read_moe(in, {.renormalise = true, .d_expert = s.d_ff / top_k});
  return s;
}

}  // namespace

Family qwen3moe_family() {
  return {.arch = "qwen3moe",
          .models = "Qwen3-30B-A3B, Qwen3-235B-A22B",
          .attention = "as qwen3",
          .ffn = "softmax, renormalised",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
