#include "tensor/dequant.h"

#include <cstring>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

// The order of the float operations is part of the format: (d * scale) * q - (dmin * min), each
// step rounded to f32. Any other order differs from other engines in the last bit.
namespace hob {
namespace {

void dequantise(const BlockQ4_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 16; j++) {
    y[j] = static_cast<float>((b.qs[j] & 15) - 8) * d;
    y[j + 16] = static_cast<float>((b.qs[j] >> 4) - 8) * d;
  }
}

void dequantise(const BlockQ4_1& b, float* y) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  for (int j = 0; j < 16; j++) {
    y[j] = static_cast<float>(b.qs[j] & 15) * d + m;
    y[j + 16] = static_cast<float>(b.qs[j] >> 4) * d + m;
  }
}

// Element j's fifth bit, moved to its place above the nibble.
int fifth_bit(const uint8_t (&qh)[4], int j) { return ((qh[j / 8] >> (j % 8)) & 1) << 4; }

void dequantise(const BlockQ5_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 16; j++) {
    y[j] = static_cast<float>(((b.qs[j] & 15) | fifth_bit(b.qh, j)) - 16) * d;
    y[j + 16] = static_cast<float>(((b.qs[j] >> 4) | fifth_bit(b.qh, j + 16)) - 16) * d;
  }
}

void dequantise(const BlockQ5_1& b, float* y) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  for (int j = 0; j < 16; j++) {
    y[j] = static_cast<float>((b.qs[j] & 15) | fifth_bit(b.qh, j)) * d + m;
    y[j + 16] = static_cast<float>((b.qs[j] >> 4) | fifth_bit(b.qh, j + 16)) * d + m;
  }
}

void dequantise(const BlockQ8_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 32; j++) y[j] = static_cast<float>(b.qs[j]) * d;
}

// Q2_K and Q3_K: each half (128 elements) uses 32 bytes of qs; bits 0-1 of those bytes are its
// first 32 elements, bits 2-3 the next 32, and so on. A scale covers 16 elements.
void dequantise(const BlockQ2_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, shift = i % 128 / 32 * 2;
    const int q = (b.qs[32 * half + i % 32] >> shift) & 3;
    const uint8_t scale = b.scales[i / 16];
    y[i] = d * static_cast<float>(scale & 15) * static_cast<float>(q) -
           dmin * static_cast<float>(scale >> 4);
  }
}

// Scale j (0..15): low nibble from the first 8 bytes, two high bits from the last 4; stored with an
// offset of 32.
int q3_scale(const uint8_t (&s)[12], int j) {
  const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
  const int high = (s[8 + j % 4] >> (j / 4 * 2)) & 3;
  return (low | (high << 4)) - 32;
}

void dequantise(const BlockQ3_K& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, shift = i % 128 / 32 * 2;
    const int low = (b.qs[32 * half + i % 32] >> shift) & 3;
    const bool third_bit = (b.hmask[i % 32] >> (i / 32)) & 1;
    const float scale = d * static_cast<float>(q3_scale(b.scales, i / 16));
    y[i] = scale * static_cast<float>(low - (third_bit ? 0 : 4));
  }
}

// Q4_K and Q5_K: 32 bytes hold 64 elements, the low nibbles sub-block 2k and the high nibbles
// sub-block 2k+1.
void dequantise(const BlockQ4_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int sub = 0; sub < 8; sub++) {
    const ScaleMin sm = scale_min_6bit(b.scales, sub);
    const float scale = d * sm.scale, min = dmin * sm.min;
    for (int l = 0; l < 32; l++) {
      const int q = (b.qs[32 * (sub / 2) + l] >> (sub % 2 * 4)) & 15;
      y[32 * sub + l] = scale * static_cast<float>(q) - min;
    }
  }
}

void dequantise(const BlockQ5_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int sub = 0; sub < 8; sub++) {
    const ScaleMin sm = scale_min_6bit(b.scales, sub);
    const float scale = d * sm.scale, min = dmin * sm.min;
    for (int l = 0; l < 32; l++) {
      const int low = (b.qs[32 * (sub / 2) + l] >> (sub % 2 * 4)) & 15;
      const int q = low | (((b.qh[l] >> sub) & 1) << 4);
      y[32 * sub + l] = scale * static_cast<float>(q) - min;
    }
  }
}

// Each half (128 elements) is four runs of 32: runs 0 and 1 are the low nibbles of its 64 ql bytes,
// runs 2 and 3 the high ones; run r's two high bits are bits 2r of its 32 qh bytes.
void dequantise(const BlockQ6_K& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, run = i % 128 / 32, l = i % 32;
    const int low = (b.ql[64 * half + run % 2 * 32 + l] >> (run / 2 * 4)) & 15;
    const int high = (b.qh[32 * half + l] >> (2 * run)) & 3;
    const float scale = d * static_cast<float>(b.scales[i / 16]);
    y[i] = scale * static_cast<float>((low | (high << 4)) - 32);
  }
}

void dequantise(const BlockIQ4_NL& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 16; j++) {
    y[j] = d * static_cast<float>(kIQ4Values[b.qs[j] & 15]);
    y[j + 16] = d * static_cast<float>(kIQ4Values[b.qs[j] >> 4]);
  }
}

void dequantise(const BlockIQ4_XS& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int sub = 0; sub < 8; sub++) {
    const int low = (b.scales_l[sub / 2] >> (sub % 2 * 4)) & 15;
    const int high = (b.scales_h >> (2 * sub)) & 3;
    const float scale = d * static_cast<float>((low | (high << 4)) - 32);
    for (int j = 0; j < 16; j++) {
      const uint8_t q = b.qs[16 * sub + j];
      y[32 * sub + j] = scale * static_cast<float>(kIQ4Values[q & 15]);
      y[32 * sub + j + 16] = scale * static_cast<float>(kIQ4Values[q >> 4]);
    }
  }
}

void dequantise(const BlockMXFP4& b, float* y) {
  const float d = e8m0_half_to_f32(b.e);
  for (int j = 0; j < 16; j++) {
    y[j] = d * static_cast<float>(kMXFP4Values[b.qs[j] & 15]);
    y[j + 16] = d * static_cast<float>(kMXFP4Values[b.qs[j] >> 4]);
  }
}

void dequantise(const BlockQ2_1& b, float* y) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  for (int j = 0; j < 32; j++) {
    y[j] = static_cast<float>((b.qs[j % 8] >> (j / 8 * 2)) & 3) * d + m;
  }
}

void dequantise(const BlockQ3_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 32; j++) {
    const int low = (b.qs[j % 8] >> (j / 8 * 2)) & 3, high = (b.qh[j % 4] >> (j / 4)) & 1;
    y[j] = static_cast<float>((low | (high << 2)) - 4) * d;
  }
}

// The difference is a small whole number, so the product is exact in f32.
void dequantise(const BlockG2& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 32; j++)
    y[j] = static_cast<float>(((b.qs[j % 8] >> (j / 8 * 2)) & 3) - b.z) * d;
}

void dequantise(const BlockG3& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 32; j++) {
    const int low = (b.qs[j % 8] >> (j / 8 * 2)) & 3, high = (b.qh[j % 4] >> (j / 4)) & 1;
    y[j] = static_cast<float>((low | (high << 2)) - b.z) * d;
  }
}

void dequantise(const BlockG4& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 16; j++) {
    y[j] = static_cast<float>((b.qs[j] & 15) - b.z) * d;
    y[j + 16] = static_cast<float>((b.qs[j] >> 4) - b.z) * d;
  }
}

void dequantise(const BlockG8& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 32; j++) y[j] = static_cast<float>(b.qs[j] - b.z) * d;
}

template <class Block>
void dequantise_blocks(const std::byte* src, int64_t n_blocks, int block, float* dst) {
  Block b;
  for (int64_t i = 0; i < n_blocks; i++) {
    std::memcpy(&b, src + static_cast<size_t>(i) * sizeof b, sizeof b);
    dequantise(b, dst + i * block);
  }
}

template <float (*to_f32)(uint16_t)>
void widen(const std::byte* src, int64_t n, float* dst) {
  for (int64_t i = 0; i < n; i++) {
    uint16_t half;
    std::memcpy(&half, src + 2 * i, sizeof half);
    dst[i] = to_f32(half);
  }
}

}  // namespace

void dequantise_row(DType type, const std::byte* src, int64_t n, float* dst) {
  const int block = dtype_info(type).block;
  HOB_CHECK(n >= 0 && n % block == 0);
  const int64_t n_blocks = n / block;
  switch (type) {
    case DType::kF32:
      if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      return widen<f16_to_f32>(src, n, dst);
    case DType::kBF16:
      return widen<bf16_to_f32>(src, n, dst);
    case DType::kQ4_0:
      return dequantise_blocks<BlockQ4_0>(src, n_blocks, block, dst);
    case DType::kQ4_1:
      return dequantise_blocks<BlockQ4_1>(src, n_blocks, block, dst);
    case DType::kQ5_0:
      return dequantise_blocks<BlockQ5_0>(src, n_blocks, block, dst);
    case DType::kQ5_1:
      return dequantise_blocks<BlockQ5_1>(src, n_blocks, block, dst);
    case DType::kQ8_0:
      return dequantise_blocks<BlockQ8_0>(src, n_blocks, block, dst);
    case DType::kQ2_K:
      return dequantise_blocks<BlockQ2_K>(src, n_blocks, block, dst);
    case DType::kQ3_K:
      return dequantise_blocks<BlockQ3_K>(src, n_blocks, block, dst);
    case DType::kQ4_K:
      return dequantise_blocks<BlockQ4_K>(src, n_blocks, block, dst);
    case DType::kQ5_K:
      return dequantise_blocks<BlockQ5_K>(src, n_blocks, block, dst);
    case DType::kQ6_K:
      return dequantise_blocks<BlockQ6_K>(src, n_blocks, block, dst);
    case DType::kIQ4_NL:
      return dequantise_blocks<BlockIQ4_NL>(src, n_blocks, block, dst);
    case DType::kIQ4_XS:
      return dequantise_blocks<BlockIQ4_XS>(src, n_blocks, block, dst);
    case DType::kMXFP4:
      return dequantise_blocks<BlockMXFP4>(src, n_blocks, block, dst);
    case DType::kQ2_1:
      return dequantise_blocks<BlockQ2_1>(src, n_blocks, block, dst);
    case DType::kQ3_0:
      return dequantise_blocks<BlockQ3_0>(src, n_blocks, block, dst);
    case DType::kG2:
      return dequantise_blocks<BlockG2>(src, n_blocks, block, dst);
    case DType::kG3:
      return dequantise_blocks<BlockG3>(src, n_blocks, block, dst);
    case DType::kG4:
      return dequantise_blocks<BlockG4>(src, n_blocks, block, dst);
    case DType::kG8:
      return dequantise_blocks<BlockG8>(src, n_blocks, block, dst);
  }
  HOB_CHECK(false);
}

}  // namespace hob
