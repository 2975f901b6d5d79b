// Phi-3 and Phi-4-mini, dense: q, k, v in one tensor, gate and up in another; LongRoPE.
#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.fused_qkv = true;
  s.attn.bias_qkv = in.find_tensor("blk.0.attn_qkv.bias") != nullptr;
  s.attn.window = in.optional_int("attention.sliding_window", 0, {0, kMaxCtx});
  s.fused_gate_up = true;
  return s;
}

}  // namespace

Family phi3_family() {
  return {.arch = "phi3",
          .models = "Phi-3, Phi-4-mini",
          .attention = "fused q, k, v; window; LongRoPE",
          .ffn = "SiLU, fused gate and up",
          .read_spec = read_spec,
          .rules = decoder_rules};
}

}  // namespace hob
