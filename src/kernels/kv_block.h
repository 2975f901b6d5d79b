#pragma once
// One block of the KV cache: kKvBlock tokens of one KV head of one layer.
//   K   [d][16 tokens]: coordinate by coordinate. One vector holds a coordinate of 16 positions, so
//       a score needs no sum across lanes and K streams in order.
//   V   [16 tokens][d]
// kQ8: int8 codes in that order, then f16 scales [d/32][16 tokens], one per token and 32
// coordinates: 8.5 bits per number.
#include <cstddef>

namespace hob {

enum class KvType { kF16, kF32, kQ8 };
inline constexpr int kNKvTypes = 3;
inline constexpr int kKvBlock = 16;
inline constexpr int kKvScaleWidth = 32;
// Widest K or V vector of a head (DeepSeek's latent has 576).
inline constexpr int kMaxKvWidth = 1024;

// Bytes of one block of width d; d is a multiple of kKvScaleWidth for kQ8.
size_t kv_block_bytes(KvType type, int d);
const char* kv_type_name(KvType type);

}  // namespace hob
