#include "tensor/quantise_search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "tensor/affine_search.h"
#include "tensor/blocks.h"
#include "tensor/half.h"
#include "tensor/mxfp4_search.h"
#include "tensor/quantise.h"
#include "tensor/symmetric_search.h"

namespace hob {

namespace search {
float through_half(float x) { return f16_to_f32(f32_to_f16(std::clamp(x, -kMaxHalf, kMaxHalf))); }
}  // namespace search

namespace {

using namespace search;

// --- Codes and scales of one block into its bytes (the places: dequant.cc) ---

void put_crumbs_256(const uint8_t* codes, uint8_t (&qs)[64]) {  // low two bits, Q2_K and Q3_K
  std::fill(std::begin(qs), std::end(qs), uint8_t{0});
  for (int i = 0; i < 256; i++) {
    qs[32 * (i / 128) + i % 32] |= static_cast<uint8_t>((codes[i] & 3) << (i % 128 / 32 * 2));
  }
}

void put_crumbs_32(const uint8_t* codes, uint8_t (&qs)[8]) {
  std::fill(std::begin(qs), std::end(qs), uint8_t{0});
  for (int j = 0; j < 32; j++) {
    qs[j % 8] |= static_cast<uint8_t>((codes[j] & 3) << (j / 8 * 2));
  }
}

int integer(const F4* of_quads, int group) {
  return static_cast<int>(of_quads[group / kLanes][group % kLanes]);
}

void quantise(const float* x, const float* importance, BlockQ2_K& b) {
  AffineBlock<16, 4, 3, 15> block;
  block.search(x, importance);
  uint8_t codes[kBlock256];
  block.codes(codes);
  put_crumbs_256(codes, b.qs);
  for (int j = 0; j < 16; j++) {
    b.scales[j] = static_cast<uint8_t>(integer(block.scales, j) | (integer(block.mins, j) << 4));
  }
  b.d = f32_to_f16(block.d);
  b.dmin = f32_to_f16(block.dmin);
}

void quantise(const float* x, const float* importance, BlockQ3_K& b) {
  SymmetricBlock<EvenCodes<4>, 16, 32> block;
  block.search(x, importance);
  uint8_t codes[kBlock256];
  block.codes(codes);
  b = {};
  put_crumbs_256(codes, b.qs);
  for (int i = 0; i < 256; i++) {
    b.hmask[i % 32] |= static_cast<uint8_t>((codes[i] >> 2) << (i / 32));
  }
  for (int j = 0; j < 16; j++) {
    const int scale = integer(block.scales, j) + 32;
    b.scales[j % 8] |= static_cast<uint8_t>((scale & 15) << (j / 8 * 4));
    b.scales[8 + j % 4] |= static_cast<uint8_t>((scale >> 4) << (j / 4 * 2));
  }
  b.d = f32_to_f16(block.d);
}

// Q4_K and Q5_K: eight groups; `block` has been searched.
template <class AffineBlock, class Block>
void put_scales_and_low_bits(const AffineBlock& block, const uint8_t* codes, Block& b) {
  b = {};
  for (int sub = 0; sub < 8; sub++) {
    put_scale_min_6bit(b.scales, sub, integer(block.scales, sub), integer(block.mins, sub));
    for (int l = 0; l < 32; l++) {
      b.qs[32 * (sub / 2) + l] |= static_cast<uint8_t>((codes[32 * sub + l] & 15) << (sub % 2 * 4));
    }
  }
  b.d = f32_to_f16(block.d);
  b.dmin = f32_to_f16(block.dmin);
}

void quantise(const float* x, const float* importance, BlockQ4_K& b) {
  AffineBlock<32, 2, 15, 63> block;
  block.search(x, importance);
  uint8_t codes[kBlock256];
  block.codes(codes);
  put_scales_and_low_bits(block, codes, b);
}

void quantise(const float* x, const float* importance, BlockQ5_K& b) {
  AffineBlock<32, 2, 31, 63> block;
  block.search(x, importance);
  uint8_t codes[kBlock256];
  block.codes(codes);
  put_scales_and_low_bits(block, codes, b);
  for (int i = 0; i < 256; i++) {
    b.qh[i % 32] |= static_cast<uint8_t>((codes[i] >> 4) << (i / 32));
  }
}

void quantise(const float* x, const float* importance, BlockQ6_K& b) {
  SymmetricBlock<EvenCodes<32>, 16, 128> block;
  block.search(x, importance);
  uint8_t codes[kBlock256];
  block.codes(codes);
  b = {};
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, run = i % 128 / 32, l = i % 32;
    b.ql[64 * half + run % 2 * 32 + l] |= static_cast<uint8_t>((codes[i] & 15) << (run / 2 * 4));
    b.qh[32 * half + l] |= static_cast<uint8_t>((codes[i] >> 4) << (2 * run));
  }
  for (int j = 0; j < 16; j++) b.scales[j] = static_cast<int8_t>(integer(block.scales, j));
  b.d = f32_to_f16(block.d);
}

void quantise(const float* x, const float* importance, BlockIQ4_XS& b) {
  SymmetricBlock<IQ4Codes, 32, 32> block;
  block.search(x, importance);
  uint8_t codes[kBlock256];
  block.codes(codes);
  b = {};
  for (int sub = 0; sub < 8; sub++) {
    const int scale = integer(block.scales, sub) + 32;
    b.scales_l[sub / 2] |= static_cast<uint8_t>((scale & 15) << (sub % 2 * 4));
    b.scales_h = static_cast<uint16_t>(b.scales_h | ((scale >> 4) << (2 * sub)));
    for (int j = 0; j < 16; j++) {
      const uint8_t* of_sub = codes + 32 * sub;
      b.qs[16 * sub + j] = static_cast<uint8_t>(of_sub[j] | (of_sub[j + 16] << 4));
    }
  }
  b.d = f32_to_f16(block.d);
}

// --- Types of 32 weights: four blocks are one quad ---

F4 through_half4(F4 x) {
  return F4{through_half(x[0]), through_half(x[1]), through_half(x[2]), through_half(x[3])};
}

template <int kMaxCode, class Block>
void quantise_affine(const float* x, const float* importance, Block (&b)[kLanes], uint8_t* codes) {
  Quad<32> quad;
  quad.load(x, importance);
  const AffineFit fit = search_affine<kMaxCode, false>(quad);
  const F4 d = through_half4(fit.scale);
  // The offset once more, for the scale as it is stored.
  const F4 m = through_half4(ratio4(quad.sum_wx - d * fit.sums.wq, quad.sum_w));
  affine_codes<kMaxCode>(quad, d, m, codes);
  for (int lane = 0; lane < kLanes; lane++) {
    b[lane].d = f32_to_f16(d[lane]);
    b[lane].m = f32_to_f16(m[lane]);
  }
}

void put_nibbles_32(const uint8_t* codes, uint8_t (&qs)[16]) {
  for (int j = 0; j < 16; j++) {
    qs[j] = static_cast<uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
  }
}

void put_fifth_bits_32(const uint8_t* codes, uint8_t (&qh)[4]) {
  std::fill(std::begin(qh), std::end(qh), uint8_t{0});
  for (int j = 0; j < 32; j++) qh[j / 8] |= static_cast<uint8_t>((codes[j] >> 4) << (j % 8));
}

void quantise(const float* x, const float* importance, BlockQ2_1 (&b)[kLanes]) {
  uint8_t codes[kLanes * 32];
  quantise_affine<3>(x, importance, b, codes);
  for (int lane = 0; lane < kLanes; lane++) put_crumbs_32(codes + 32 * lane, b[lane].qs);
}

void quantise(const float* x, const float* importance, BlockQ4_1 (&b)[kLanes]) {
  uint8_t codes[kLanes * 32];
  quantise_affine<15>(x, importance, b, codes);
  for (int lane = 0; lane < kLanes; lane++) put_nibbles_32(codes + 32 * lane, b[lane].qs);
}

void quantise(const float* x, const float* importance, BlockQ5_1 (&b)[kLanes]) {
  uint8_t codes[kLanes * 32];
  quantise_affine<31>(x, importance, b, codes);
  for (int lane = 0; lane < kLanes; lane++) {
    put_nibbles_32(codes + 32 * lane, b[lane].qs);
    put_fifth_bits_32(codes + 32 * lane, b[lane].qh);
  }
}

template <class Codes, class Block>
void quantise_symmetric(const float* x, const float* importance, Block (&b)[kLanes],
                        uint8_t* codes) {
  Quad<32> quad;
  quad.load(x, importance);
  const F4 d = through_half4(search_symmetric<Codes>(quad).scale);
  symmetric_codes<Codes>(quad, d, codes);
  for (int lane = 0; lane < kLanes; lane++) b[lane].d = f32_to_f16(d[lane]);
}

void quantise(const float* x, const float* importance, BlockQ3_0 (&b)[kLanes]) {
  uint8_t codes[kLanes * 32];
  quantise_symmetric<EvenCodes<4>>(x, importance, b, codes);
  for (int lane = 0; lane < kLanes; lane++) {
    const uint8_t* of_lane = codes + 32 * lane;
    put_crumbs_32(of_lane, b[lane].qs);
    std::fill(std::begin(b[lane].qh), std::end(b[lane].qh), uint8_t{0});
    for (int j = 0; j < 32; j++) {
      b[lane].qh[j % 4] |= static_cast<uint8_t>((of_lane[j] >> 2) << (j / 4));
    }
  }
}

void quantise(const float* x, const float* importance, BlockQ4_0 (&b)[kLanes]) {
  uint8_t codes[kLanes * 32];
  quantise_symmetric<EvenCodes<8>>(x, importance, b, codes);
  for (int lane = 0; lane < kLanes; lane++) put_nibbles_32(codes + 32 * lane, b[lane].qs);
}

void quantise(const float* x, const float* importance, BlockQ5_0 (&b)[kLanes]) {
  uint8_t codes[kLanes * 32];
  quantise_symmetric<EvenCodes<16>>(x, importance, b, codes);
  for (int lane = 0; lane < kLanes; lane++) {
    put_nibbles_32(codes + 32 * lane, b[lane].qs);
    put_fifth_bits_32(codes + 32 * lane, b[lane].qh);
  }
}

void quantise(const float* x, const float* importance, BlockIQ4_NL (&b)[kLanes]) {
  uint8_t codes[kLanes * 32];
  quantise_symmetric<IQ4Codes>(x, importance, b, codes);
  for (int lane = 0; lane < kLanes; lane++) put_nibbles_32(codes + 32 * lane, b[lane].qs);
}

// --- Rows ---

// What the search works on at once: a 256-block, or four blocks of 32.
constexpr int kMaxUnit = 256;
struct Unit {
  float x[kMaxUnit] = {};
  float w[kMaxUnit] = {};

  void load_weights(const float* from, int n) {
    for (int i = 0; i < n; i++) {
      const float v = std::isnan(from[i]) ? 0 : from[i];
      x[i] = std::clamp(v, -kMaxHalf, kMaxHalf);
    }
  }
  // For the n weights of whole blocks that load_weights has put there.
  void load_importance(const float* from, int n, int block) {
    if (from != nullptr && load_given_importance(from, n)) return;
    for (int at = 0; at < n; at += block) default_importance(x + at, block, w + at);
  }

 private:
  // Scaled to a mean of 1, so that no sum over- or underflows, and never 0, so that a group of
  // unimportant weights is still coded well. False when no number is usable.
  bool load_given_importance(const float* from, int n) {
    const auto usable = [](float v) { return v > 0 && std::isfinite(v); };
    double sum = 0;
    for (int i = 0; i < n; i++) sum += usable(from[i]) ? static_cast<double>(from[i]) : 0;
    if (!(sum > 0)) return false;
    constexpr double kLeast = 1e-5;
    for (int i = 0; i < n; i++) {
      const double v = usable(from[i]) ? static_cast<double>(from[i]) * n / sum : 0;
      w[i] = static_cast<float>(std::max(v, kLeast));
    }
    return true;
  }
  static void default_importance(const float* block_x, int n, float* block_w) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += static_cast<double>(block_x[i]) * block_x[i];
    const double rms = std::sqrt(sum / n);
    const auto per_rms = static_cast<float>(rms > 1e-30 ? 1 / rms : 0);
    for (int i = 0; i < n; i++) block_w[i] = 1 + std::fabs(block_x[i]) * per_rms;
  }
};

template <class Block>
void quantise_256(const float* src, int64_t n, const float* importance, std::byte* dst) {
  Unit unit;
  Block b;
  for (int64_t i = 0; i < n; i += kBlock256, dst += sizeof b) {
    unit.load_weights(src + i, kBlock256);
    unit.load_importance(importance ? importance + i : nullptr, kBlock256, kBlock256);
    quantise(unit.x, unit.w, b);
    std::memcpy(dst, &b, sizeof b);
  }
}

template <class Block>
void quantise_32(const float* src, int64_t n, const float* importance, std::byte* dst) {
  constexpr int kUnit = kLanes * kBlock32;
  Unit unit;
  Block b[kLanes];
  for (int64_t i = 0; i < n; i += kUnit) {
    const int n_here = static_cast<int>(std::min<int64_t>(kUnit, n - i));
    if (n_here < kUnit) unit = Unit{};
    unit.load_weights(src + i, n_here);
    unit.load_importance(importance ? importance + i : nullptr, n_here, kBlock32);
    quantise(unit.x, unit.w, b);
    const size_t n_bytes = static_cast<size_t>(n_here / kBlock32) * sizeof b[0];
    std::memcpy(dst, b, n_bytes);
    dst += n_bytes;
  }
}

// 8 bits leave nothing to search for.
void plain_q8_0(const float* src, int64_t n, const float*, std::byte* dst) {
  Unit unit;
  for (int64_t i = 0; i < n; i += kBlock32, dst += sizeof(BlockQ8_0)) {
    unit.load_weights(src + i, kBlock32);
    quantise_row(DType::kQ8_0, unit.x, kBlock32, dst);
  }
}

void mxfp4(const float* src, int64_t n, const float* importance, std::byte* dst) {
  Unit unit;
  for (int64_t i = 0; i < n; i += kBlock32, dst += sizeof(BlockMXFP4)) {
    unit.load_weights(src + i, kBlock32);
    unit.load_importance(importance ? importance + i : nullptr, kBlock32, kBlock32);
    uint8_t codes[kBlock32];
    BlockMXFP4 b;
    b.e = search_mxfp4(unit.x, unit.w, codes);
    put_nibbles_32(codes, b.qs);
    std::memcpy(dst, &b, sizeof b);
  }
}

using Quantiser = void (*)(const float* src, int64_t n, const float* importance, std::byte* dst);

constexpr std::pair<DType, Quantiser> kQuantisers[] = {
    {DType::kQ2_K, quantise_256<BlockQ2_K>},
    {DType::kQ3_K, quantise_256<BlockQ3_K>},
    {DType::kQ4_K, quantise_256<BlockQ4_K>},
    {DType::kQ4_0, quantise_32<BlockQ4_0>},
    {DType::kQ2_1, quantise_32<BlockQ2_1>},
    {DType::kQ3_0, quantise_32<BlockQ3_0>},
    {DType::kQ8_0, plain_q8_0},
    {DType::kQ4_1, quantise_32<BlockQ4_1>},
    {DType::kQ5_0, quantise_32<BlockQ5_0>},
    {DType::kQ5_1, quantise_32<BlockQ5_1>},
    {DType::kQ5_K, quantise_256<BlockQ5_K>},
    {DType::kQ6_K, quantise_256<BlockQ6_K>},
    {DType::kIQ4_NL, quantise_32<BlockIQ4_NL>},
    {DType::kIQ4_XS, quantise_256<BlockIQ4_XS>},
    {DType::kMXFP4, mxfp4},
};

Quantiser find_quantiser(DType type) {
  for (const auto& [row_type, quantiser] : kQuantisers) {
    if (row_type == type) return quantiser;
  }
  return nullptr;
}

}  // namespace

bool can_quantise_search(DType type) { return find_quantiser(type) != nullptr; }

void quantise_row_search(DType type, const float* src, int64_t n, const float* importance,
                         std::byte* dst) {
  HOB_CHECK(n >= 0 && n % dtype_info(type).block == 0);
  const Quantiser quantiser = find_quantiser(type);
  if (quantiser == nullptr) {
    fail(Code::kUnimplemented,
         "[quantise] {}: hob does not write low-precision copies of this type",
         dtype_info(type).name);
  }
  quantiser(src, n, importance, dst);
}

DType low_type(int bits, int cols) {
  if (cols < 1 || cols % kBlock32 != 0) {
    fail(Code::kInvalidArgument,
         "[quantise] rows of {} weights: a low-precision copy needs a multiple of {}", cols,
         kBlock32);
  }
  const bool wide = cols % kBlock256 == 0;
  if (bits == 4) return wide ? DType::kQ4_K : DType::kQ4_0;
  if (bits == 3) return wide ? DType::kQ3_K : DType::kQ3_0;
  if (bits == 2) return wide ? DType::kQ2_K : DType::kQ2_1;
  fail(Code::kInvalidArgument, "[quantise] {} bits: expected 2, 3 or 4", bits);
}

}  // namespace hob
