#include "tensor/quantise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace hob {
namespace {

// Integer part of `value` within [low, high]; NaN gives `low`.
int clamped(double value, int low, int high) {
  if (!(value > low)) return low;
  return static_cast<int>(std::min<double>(value, high));
}

float inverse(float d) { return d != 0 ? 1 / d : 0; }

// The element of largest magnitude, with its sign (the first of equals).
float signed_max(const float* x, int n) {
  float best = 0;
  for (int i = 0; i < n; i++) {
    if (std::fabs(x[i]) > std::fabs(best)) best = x[i];
  }
  return best;
}

void quantise(const float* x, BlockQ8_0& b) {
  const float d = std::fabs(signed_max(x, 32)) / 127;
  const float id = inverse(d);
  b.d = f32_to_f16(d);
  for (int j = 0; j < 32; j++) {
    b.qs[j] = static_cast<int8_t>(clamped(std::round(x[j] * id), -127, 127));
  }
}

// Q4_0 and Q5_0: the extreme element becomes the most negative step, which has one more than the
// positive side. Product and sum round once (float products are exact in double): ties then do not
// depend on the compiler.
struct SymmetricScale {
  SymmetricScale(const float* x, int n_steps) : n_steps_(n_steps) {
    d = signed_max(x, 32) / static_cast<float>(-n_steps / 2);
    id_ = inverse(d);
  }
  int step(float x) const {
    const double exact = static_cast<double>(x) * static_cast<double>(id_) + n_steps_ / 2 + 0.5;
    return clamped(static_cast<float>(exact), 0, n_steps_ - 1);
  }
  float d;

 private:
  int n_steps_;
  float id_;
};

// Q4_1 and Q5_1: from the smallest to the largest element.
struct MinMaxScale {
  MinMaxScale(const float* x, int n_steps) : n_steps_(n_steps) {
    const auto [low, high] = std::minmax_element(x, x + 32);
    m = *low;
    d = (*high - *low) / static_cast<float>(n_steps - 1);
    id_ = inverse(d);
  }
  int step(float x) const { return clamped((x - m) * id_ + 0.5f, 0, n_steps_ - 1); }
  float d, m;

 private:
  int n_steps_;
  float id_;
};

template <class Scale>
void pack_nibbles(const float* x, const Scale& scale, uint8_t (&qs)[16]) {
  for (int j = 0; j < 16; j++) {
    qs[j] = static_cast<uint8_t>((scale.step(x[j]) & 15) | ((scale.step(x[j + 16]) & 15) << 4));
  }
}

template <class Scale>
void pack_fifth_bits(const float* x, const Scale& scale, uint8_t (&qh)[4]) {
  std::fill(std::begin(qh), std::end(qh), uint8_t{0});
  for (int j = 0; j < 32; j++)
    qh[j / 8] |= static_cast<uint8_t>((scale.step(x[j]) >> 4) << (j % 8));
}

void quantise(const float* x, BlockQ4_0& b) {
  const SymmetricScale scale(x, 16);
  b.d = f32_to_f16(scale.d);
  pack_nibbles(x, scale, b.qs);
}

void quantise(const float* x, BlockQ4_1& b) {
  const MinMaxScale scale(x, 16);
  b.d = f32_to_f16(scale.d);
  b.m = f32_to_f16(scale.m);
  pack_nibbles(x, scale, b.qs);
}

void quantise(const float* x, BlockQ5_0& b) {
  const SymmetricScale scale(x, 32);
  b.d = f32_to_f16(scale.d);
  pack_nibbles(x, scale, b.qs);
  pack_fifth_bits(x, scale, b.qh);
}

void quantise(const float* x, BlockQ5_1& b) {
  const MinMaxScale scale(x, 32);
  b.d = f32_to_f16(scale.d);
  b.m = f32_to_f16(scale.m);
  pack_nibbles(x, scale, b.qs);
  pack_fifth_bits(x, scale, b.qh);
}

void quantise(const float* x, BlockQ4_K& b) {
  float scales[8], mins[8];  // wanted: element = scale * q - min, min >= 0
  for (int sub = 0; sub < 8; sub++) {
    const auto [low, high] = std::minmax_element(x + 32 * sub, x + 32 * sub + 32);
    mins[sub] = std::max(0.0f, -*low);
    scales[sub] = std::max(0.0f, *high + mins[sub]) / 15;
  }
  b = {};
  b.d = f32_to_f16(*std::max_element(scales, scales + 8) / 63);
  b.dmin = f32_to_f16(*std::max_element(mins, mins + 8) / 63);
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);  // what the reader will use
  for (int sub = 0; sub < 8; sub++) {
    const int scale = clamped(std::round(scales[sub] * inverse(d)), 0, 63);
    const int min = clamped(std::round(mins[sub] * inverse(dmin)), 0, 63);
    put_scale_min_6bit(b.scales, sub, scale, min);
    const float step = d * static_cast<float>(scale), offset = dmin * static_cast<float>(min);
    for (int l = 0; l < 32; l++) {
      const int q = clamped(std::round((x[32 * sub + l] + offset) * inverse(step)), 0, 15);
      b.qs[32 * (sub / 2) + l] |= static_cast<uint8_t>(q << (sub % 2 * 4));
    }
  }
}

void quantise(const float* x, BlockQ6_K& b) {
  float scales[16];
  for (int sub = 0; sub < 16; sub++) scales[sub] = signed_max(x + 16 * sub, 16) / -32;
  b = {};
  b.d = f32_to_f16(signed_max(scales, 16) / -128);
  const float d = f16_to_f32(b.d);
  for (int sub = 0; sub < 16; sub++) {
    b.scales[sub] = static_cast<int8_t>(clamped(std::round(scales[sub] * inverse(d)), -128, 127));
  }
  for (int i = 0; i < 256; i++) {  // places as in dequant.cc
    const float step = d * static_cast<float>(b.scales[i / 16]);
    const int q = clamped(std::round(x[i] * inverse(step)), -32, 31) + 32;
    const int half = i / 128, run = i % 128 / 32, l = i % 32;
    b.ql[64 * half + run % 2 * 32 + l] |= static_cast<uint8_t>((q & 15) << (run / 2 * 4));
    b.qh[32 * half + l] |= static_cast<uint8_t>((q >> 4) << (2 * run));
  }
}

template <class Block, int block>
void quantise_blocks(const float* src, int64_t n, std::byte* dst) {
  Block b;
  for (int64_t i = 0; i < n / block; i++) {
    quantise(src + i * block, b);
    std::memcpy(dst + static_cast<size_t>(i) * sizeof b, &b, sizeof b);
  }
}

template <uint16_t (*from_f32)(float)>
void narrow(const float* src, int64_t n, std::byte* dst) {
  for (int64_t i = 0; i < n; i++) {
    const uint16_t half = from_f32(src[i]);
    std::memcpy(dst + 2 * i, &half, sizeof half);
  }
}

void copy_f32(const float* src, int64_t n, std::byte* dst) {
  if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
}

using Quantiser = void (*)(const float* src, int64_t n, std::byte* dst);

constexpr std::pair<DType, Quantiser> kQuantisers[] = {
    {DType::kF32, copy_f32},
    {DType::kF16, narrow<f32_to_f16>},
    {DType::kBF16, narrow<f32_to_bf16>},
    {DType::kQ8_0, quantise_blocks<BlockQ8_0, kBlock32>},
    {DType::kQ4_0, quantise_blocks<BlockQ4_0, kBlock32>},
    {DType::kQ4_1, quantise_blocks<BlockQ4_1, kBlock32>},
    {DType::kQ5_0, quantise_blocks<BlockQ5_0, kBlock32>},
    {DType::kQ5_1, quantise_blocks<BlockQ5_1, kBlock32>},
    {DType::kQ4_K, quantise_blocks<BlockQ4_K, kBlock256>},
    {DType::kQ6_K, quantise_blocks<BlockQ6_K, kBlock256>},
};

Quantiser find_quantiser(DType type) {
  for (const auto& [row_type, quantiser] : kQuantisers) {
    if (row_type == type) return quantiser;
  }
  return nullptr;
}

}  // namespace

bool can_quantise(DType type) { return find_quantiser(type) != nullptr; }

void quantise_row(DType type, const float* src, int64_t n, std::byte* dst) {
  HOB_CHECK(n >= 0 && n % dtype_info(type).block == 0);
  const Quantiser quantiser = find_quantiser(type);
  if (quantiser == nullptr) {
    fail(Code::kUnimplemented, "[quantise] {}: hob reads this type but does not write it",
         dtype_info(type).name);
  }
  quantiser(src, n, dst);
}

}  // namespace hob
