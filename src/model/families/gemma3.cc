// Gemma 3, text: norms around attention and FFN, q and k normalised per head; five local layers to
// each global one, which rotate with bases of their own. Norm weights hold their + 1 in GGUF.
#include <cmath>

#include "model/families/family.h"

namespace hob {
namespace {

ModelSpec read_spec(const SpecReader& in) {
  ModelSpec s = read_trunk(in);
  s.attn.qk_norm = QkNorm::kPerHead;
  s.attn.window = in.optional_int("attention.sliding_window", 0, {0, kMaxCtx});
  s.attn.global_every = in.optional_int("attention.sliding_window_pattern", 6, {1, kMaxLayers});
  // Files name no scale: it is that of the head width in all sizes but the largest.
  constexpr int kLayersOf27B = 62;
  const auto width =
      static_cast<float>(s.n_layers == kLayersOf27B ? s.d_model / s.attn.n_heads : s.attn.d_k);
  s.attn.scale = in.optional_float("attention.scale", 1.f / std::sqrt(width), {1e-6, 1e6});
  s.rope_local = {.kind = s.rope.kind,
                  .theta = in.optional_float("rope.freq_base_swa", 10000.f, {1e-3, 1e15}),
                  .d_rot = s.rope.d_rot};
  s.post_norms = true;
  // hob's own key, in files that it converted; others are computed as llama.cpp does.
  const bool exact = in.metadata().find_string(in.full_key("ffn_activation")) == "gelu_tanh";
  s.ffn_unit = exact ? GatedUnit::kGelu : GatedUnit::kGeluF16;
  s.embedding_scale = std::sqrt(static_cast<float>(s.d_model));
  return s;
}

}  // namespace

Family gemma3_family() {
  return {
      .arch = "gemma3",
      .models = "Gemma 3, text",
      .attention = "q and k normalised per head; local and global layers with a rotary base each",
      .ffn = "GELU; norms around both blocks; embeddings scaled",
      .read_spec = read_spec,
      .rules = decoder_rules};
}

}  // namespace hob
