#pragma once
// How the gate of an FFN multiplies its other half: y = act(g) * u.

namespace hob {

enum class GatedUnit {
  kSilu,         // silu(g) * u
  kGelu,         // gelu(g) * u, by tanh: Gemma as published
  kGeluF16,      // the same with f16 argument and value, as in ggml's table: Gemma in GGUF files
  kClampedSilu,  // g = min(g, 7), u = clamp(u, -7, 7): g * sigmoid(1.702 g) * (u + 1): gpt-oss
};
inline constexpr int kNGatedUnits = 4;

}  // namespace hob
