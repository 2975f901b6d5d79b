// Qwen1.5-MoE, Qwen2-57B-A14B: router weights as the softmax left them; a shared expert behind a
// sigmoid gate.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.bias_qkv = true;
  const int top_k = in.required_int("expert_used_count", {1, kMaxExperts});
  // Files from before the expert widths had keys of their own: feed_forward_length is the shared
  // expert's width, and the routed experts that one token uses are as wide together.
  s.moe = read_moe(in, {.renormalise = false, .d_expert = s.d_ff / top_k});
  s.moe.d_shared = in.optional_int("expert_shared_feed_forward_length", s.d_ff, {1, kMaxWidth});
  s.moe.shared_gated = true;
  return s;
}

}  // namespace

Family qwen2moe_family() {
  return {.arch = "qwen2moe",
          .models = "Qwen1.5-MoE, Qwen2-57B-A14B",
          .attention = "as qwen2",
          .ffn = "softmax, not renormalised; shared expert behind a sigmoid",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
