#include "tensor/quantise_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tensor/dequant.h"
#include "tensor/half.h"
#include "tensor/quantise.h"

namespace hob {
namespace {

using Floats = std::vector<float>;

constexpr size_t kCols = 1024;
constexpr DType kTypes[] = {DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ4_0,
                            DType::kQ2_1, DType::kQ3_0, DType::kQ8_0};

Floats normal(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0.0f, 0.02f);
  Floats x(n);
  for (float& v : x) v = distribution(random);
  return x;
}

// Kurtosis 15 or so: a few weights are many times the others.
Floats heavy_tailed(size_t n, unsigned seed) {
  Floats x = normal(n, seed);
  for (float& v : x) v = v * std::fabs(v) * 50;
  return x;
}

Floats with_outlier(size_t n, unsigned seed) {
  Floats x = normal(n, seed);
  x[n / 3] = 0.7f;
  return x;
}

Floats shifted(size_t n, unsigned seed) {
  Floats x = normal(n, seed);
  for (float& v : x) v += 0.05f;
  return x;
}

std::vector<std::pair<std::string, Floats>> all_rows() {
  return {{"normal", normal(kCols, 1)},
          {"heavy-tailed", heavy_tailed(kCols, 2)},
          {"one outlier", with_outlier(kCols, 3)},
          {"shifted", shifted(kCols, 4)},
          {"zero", Floats(kCols, 0.0f)},
          {"constant", Floats(kCols, 0.3f)},
          {"negative constant", Floats(kCols, -0.3f)}};
}

std::vector<std::byte> pack(DType type, const Floats& x, const Floats* importance = nullptr) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> packed(row_bytes(type, n));
  quantise_row_search(type, x.data(), n, importance ? importance->data() : nullptr, packed.data());
  return packed;
}

Floats unpack(DType type, const std::vector<std::byte>& packed, size_t n) {
  Floats y(n);
  dequantise_row(type, packed.data(), static_cast<int64_t>(n), y.data());
  return y;
}

double error(const Floats& x, const Floats& y, const Floats* importance = nullptr) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double miss = static_cast<double>(x[i]) - y[i];
    sum += (importance ? static_cast<double>((*importance)[i]) : 1.0) * miss * miss;
  }
  return sum;
}
double search_error(DType type, const Floats& x, const Floats* importance = nullptr) {
  return error(x, unpack(type, pack(type, x), x.size()), importance);
}

// With all weights of equal importance.
double equal_error(DType type, const Floats& x) {
  const Floats equal(x.size(), 1.0f);
  return error(x, unpack(type, pack(type, x, &equal), x.size()));
}

// --- What rounding without a search gives: written from the formats, in plain arithmetic ---

float half(double v) { return f16_to_f32(f32_to_f16(static_cast<float>(v))); }
double nearest(double v, double low, double high) {
  return std::clamp(std::nearbyint(v), low, high);
}
double over(double a, double b) { return b != 0 ? a / b : 0; }

// From the smallest to the largest of each group of `width`; the scales and minima of a block as
// multiples 0..steps of two halves, or halves themselves (steps == 0).
Floats plain_affine(const Floats& x, size_t width, size_t block, int top, int steps) {
  Floats y(x.size());
  for (size_t b = 0; b < x.size(); b += block) {
    std::vector<double> scales, mins;
    for (size_t g = b; g < b + block; g += width) {
      const auto [low, high] = std::minmax_element(&x[g], &x[g] + width);
      mins.push_back(steps ? std::min(0.0f, *low) : *low);
      scales.push_back((*high - mins.back()) / top);
    }
    const double unit = half(*std::max_element(scales.begin(), scales.end()) / std::max(steps, 1));
    const double down = half(*std::min_element(mins.begin(), mins.end()) / std::max(steps, 1));
    for (size_t g = 0; g < block / width; g++) {
      const double s = steps ? unit * nearest(over(scales[g], unit), 0, steps) : half(scales[g]);
      const double m = steps ? down * nearest(over(mins[g], down), 0, steps) : half(mins[g]);
      for (size_t i = b + g * width; i < b + (g + 1) * width; i++)
        y[i] = static_cast<float>(s * nearest(over(x[i] - m, s), 0, top) + m);
    }
  }
  return y;
}

// The largest of each group on the most negative code; scales as multiples of a half, -32..31.
Floats plain_symmetric(const Floats& x, size_t width, size_t block, int top, int steps) {
  Floats y(x.size());
  const auto smaller = [](double a, double b) { return std::fabs(a) < std::fabs(b); };
  for (size_t b = 0; b < x.size(); b += block) {
    std::vector<double> scales;
    for (size_t g = b; g < b + block; g += width)
      scales.push_back(*std::max_element(&x[g], &x[g] + width, smaller) / -top);
    const double unit =
        steps ? half(*std::max_element(scales.begin(), scales.end(), smaller) / -steps) : 0;
    for (size_t g = 0; g < block / width; g++) {
      const double s =
          steps ? unit * nearest(over(scales[g], unit), -steps, steps - 1) : half(scales[g]);
      for (size_t i = b + g * width; i < b + (g + 1) * width; i++)
        y[i] = static_cast<float>(s * nearest(over(x[i], s), -top, top - 1));
    }
  }
  return y;
}

Floats plain(DType type, const Floats& x) {
  if (type == DType::kQ2_K) return plain_affine(x, 16, 256, 3, 15);
  if (type == DType::kQ3_K) return plain_symmetric(x, 16, 256, 4, 32);
  if (type == DType::kQ2_1) return plain_affine(x, 32, 32, 3, 0);
  if (type == DType::kQ3_0) return plain_symmetric(x, 32, 32, 4, 0);
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> packed(row_bytes(type, n));
  quantise_row(type, x.data(), n, packed.data());
  return unpack(type, packed, x.size());
}

class QuantiseSearch : public testing::TestWithParam<DType> {};

TEST_P(QuantiseSearch, ErrorIsNotAbovePlainRounding) {
  for (const auto& [name, x] : all_rows()) {
    const double largest = std::fabs(*std::max_element(
        x.begin(), x.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
    // Rows that a type holds exactly: what is left is the rounding of a half.
    const double halves = std::pow(largest * 0x1p-11, 2) * static_cast<double>(x.size());
    EXPECT_LE(equal_error(GetParam(), x), error(x, plain(GetParam(), x)) * 1.000001 + halves)
        << name;
  }
}

TEST_P(QuantiseSearch, ZerosStayZeroAndTinyWeightsAreHarmless) {
  const DType type = GetParam();
  const Floats zeros(kCols, 0.0f);
  EXPECT_EQ(unpack(type, pack(type, zeros), kCols), zeros);
  for (const float scale : {1e-7f, 1e-12f, 1e-30f, 1e-44f}) {
    Floats x = normal(kCols, 9);
    for (float& v : x) v *= scale;
    for (const float y : unpack(type, pack(type, x), kCols)) EXPECT_LE(std::fabs(y), 1e-6f);
  }
}

TEST_P(QuantiseSearch, ImportanceMovesTheErrorToWhereItCountsLess) {
  const DType type = GetParam();
  if (type == DType::kQ8_0) return;  // plain
  std::mt19937 random(5);
  std::normal_distribution<float> spread(0.0f, 1.5f);
  Floats importance(kCols);
  for (float& v : importance) v = std::exp(spread(random));
  double with = 0, without = 0;
  for (unsigned seed = 0; seed < 8; seed++) {
    const Floats x = seed % 2 ? heavy_tailed(kCols, seed) : normal(kCols, seed);
    with += error(x, unpack(type, pack(type, x, &importance), kCols), &importance);
    without += search_error(type, x, &importance);
  }
  EXPECT_LT(with, 0.9 * without);
}

TEST_P(QuantiseSearch, ByDefaultLargeWeightsCountMore) {
  const DType type = GetParam();
  if (type == DType::kQ8_0) return;  // plain
  const Floats x = heavy_tailed(8 * kCols, 12);
  Floats importance(x.size());
  const auto block = static_cast<size_t>(dtype_info(type).block);
  for (size_t at = 0; at < x.size(); at += block) {
    double sum = 0;
    for (size_t i = at; i < at + block; i++) sum += static_cast<double>(x[i]) * x[i];
    const auto rms = static_cast<float>(std::sqrt(sum / static_cast<double>(block)));
    for (size_t i = at; i < at + block; i++) importance[i] = 1 + std::fabs(x[i]) / rms;
  }
  const Floats equal(x.size(), 1.0f);
  const Floats flat = unpack(type, pack(type, x, &equal), x.size());
  EXPECT_LT(search_error(type, x, &importance), 0.995 * error(x, flat, &importance));
  EXPECT_GT(search_error(type, x), equal_error(type, x));
  // Given as numbers it has the same effect.
  const Floats given = unpack(type, pack(type, x, &importance), x.size());
  EXPECT_NEAR(error(x, given) / search_error(type, x), 1.0, 1e-3);
}

TEST_P(QuantiseSearch, TheUnitOfImportanceDoesNotMatter) {
  const DType type = GetParam();
  const Floats x = normal(kCols, 6);
  Floats importance(kCols);
  for (size_t i = 0; i < kCols; i++) importance[i] = static_cast<float>(i % 7 + 1);
  const auto expected = pack(type, x, &importance);
  for (const float unit : {0x1p-100f, 0x1p+100f}) {
    Floats scaled = importance;
    for (float& v : scaled) v *= unit;
    EXPECT_EQ(pack(type, x, &scaled), expected) << unit;
  }
}

TEST_P(QuantiseSearch, BlocksDoNotDependOnTheirNeighbours) {
  const DType type = GetParam();
  const Floats x = heavy_tailed(kCols, 7);
  const auto whole = pack(type, x);
  EXPECT_EQ(pack(type, x), whole);
  const auto block = static_cast<size_t>(dtype_info(type).block);
  std::vector<std::byte> pieces;
  for (size_t at = 0; at < kCols; at += block) {
    // One block at a time is also the case of a row that ends inside a unit of four.
    const auto piece = pack(type, Floats(x.begin() + static_cast<std::ptrdiff_t>(at),
                                         x.begin() + static_cast<std::ptrdiff_t>(at + block)));
    pieces.insert(pieces.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(pieces, whole);
}

TEST_P(QuantiseSearch, WritesNothingBeyondTheRow) {
  const DType type = GetParam();
  const auto block = dtype_info(type).block;
  const int64_t n = block == 32 ? 96 : 512;
  const Floats x = normal(static_cast<size_t>(n), 8);
  std::vector<std::byte> out(row_bytes(type, n) + 2, std::byte{0x5A});
  quantise_row_search(type, x.data(), n, nullptr, out.data() + 1);
  EXPECT_EQ(out.front(), std::byte{0x5A});
  EXPECT_EQ(out.back(), std::byte{0x5A});
}

TEST_P(QuantiseSearch, NotANumberBecomesZeroAndInfinityIsClamped) {
  const DType type = GetParam();
  const float inf = std::numeric_limits<float>::infinity();
  Floats x = normal(kCols, 10), zeroed = x;
  for (size_t i = 3; i < kCols; i += 100) {
    x[i] = std::numeric_limits<float>::quiet_NaN();
    zeroed[i] = 0;
  }
  EXPECT_EQ(pack(type, x), pack(type, zeroed));
  Floats huge = x, clamped = x;
  huge[5] = inf;
  huge[300] = -inf;
  huge[700] = std::numeric_limits<float>::max();
  clamped[5] = clamped[700] = 65504;
  clamped[300] = -65504;
  EXPECT_EQ(pack(type, huge), pack(type, clamped));
  for (const float y : unpack(type, pack(type, huge), kCols)) EXPECT_TRUE(std::isfinite(y));
}

TEST_P(QuantiseSearch, AnyImportanceGivesFiniteWeights) {
  const DType type = GetParam();
  const Floats x = normal(kCols, 11);
  const float odd[] = {0.0f,
                       -1.0f,
                       std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::max(),
                       std::numeric_limits<float>::denorm_min(),
                       1.0f};
  Floats importance(kCols);
  for (size_t i = 0; i < kCols; i++) importance[i] = odd[i % std::size(odd)];
  for (const float y : unpack(type, pack(type, x, &importance), kCols))
    EXPECT_LT(std::fabs(y), 0.5f);
  const Floats none(kCols, 0.0f);
  EXPECT_EQ(pack(type, x, &none), pack(type, x));
}

INSTANTIATE_TEST_SUITE_P(Types, QuantiseSearch, testing::ValuesIn(kTypes), [](const auto& param) {
  return std::string(dtype_info(param.param).name);
});

struct Bound {
  DType type;
  double max_nmse;
  double min_gain;  // error power of plain rounding over that of the search
};

// Error power over signal power on normal weights; the bounds are a few percent above what the
// search reaches.
TEST(QuantiseSearchQuality, NormalWeights) {
  const Floats x = normal(256 * 400, 7);
  const double signal = error(x, Floats(x.size(), 0.0f));
  const Bound bounds[] = {{DType::kQ2_K, 0.0685, 1.2}, {DType::kQ3_K, 0.0210, 1.14},
                          {DType::kQ4_K, 0.0051, 1.2}, {DType::kQ4_0, 0.0069, 1.08},
                          {DType::kQ2_1, 0.0905, 1.2}, {DType::kQ3_0, 0.0275, 1.14}};
  for (const Bound& bound : bounds) {
    SCOPED_TRACE(dtype_info(bound.type).name);
    const double found = equal_error(bound.type, x);
    EXPECT_LT(found / signal, bound.max_nmse);
    EXPECT_GT(found / signal, bound.max_nmse * 0.93) << "the bound is loose";
    EXPECT_GT(error(x, plain(bound.type, x)) / found, bound.min_gain);
  }
}

TEST(QuantiseSearchQuality, EveryGroupsScaleAndMinimumIsWhereTheReaderLooks) {
  // Group j spans [-2(j+1), 3(j+1)]: a scale in the wrong place shows.
  for (const DType type : {DType::kQ2_K, DType::kQ3_K, DType::kQ4_K}) {
    const int width = type == DType::kQ4_K ? 32 : 16;
    Floats x(256);
    for (int i = 0; i < 256; i++) {
      const float t = static_cast<float>(i % width) / static_cast<float>(width - 1);
      x[static_cast<size_t>(i)] = static_cast<float>(i / width + 1) * (5 * t - 2);
    }
    const double nmse = search_error(type, x) / error(x, Floats(x.size(), 0.0f));
    EXPECT_LT(nmse, type == DType::kQ2_K ? 0.08 : type == DType::kQ3_K ? 0.03 : 0.004);
  }
}

TEST(LowType, WidthChoosesTheBlock) {
  EXPECT_EQ(low_type(4, 2048), DType::kQ4_K);
  EXPECT_EQ(low_type(3, 2048), DType::kQ3_K);
  EXPECT_EQ(low_type(2, 256), DType::kQ2_K);
  for (const int cols : {1408, 576, 96, 32}) {
    EXPECT_EQ(low_type(4, cols), DType::kQ4_0);
    EXPECT_EQ(low_type(3, cols), DType::kQ3_0);
    EXPECT_EQ(low_type(2, cols), DType::kQ2_1);
    for (const int bits : {2, 3, 4}) EXPECT_TRUE(can_quantise_search(low_type(bits, cols)));
  }
}

TEST(LowType, OtherBitsAndWidthsAreRefused) {
  for (const auto& [bits, cols] : {std::pair{1, 256}, std::pair{5, 256}, std::pair{2, 0},
                                   std::pair{2, 100}, std::pair{4, -32}}) {
    try {
      low_type(bits, cols);
      FAIL() << bits << " " << cols;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInvalidArgument);
    }
  }
}

TEST(QuantiseSearchRow, OtherTypesAreNamed) {
  const float x[256] = {};
  std::byte out[1024];
  for (const DTypeInfo& row : dtype_table()) {
    const bool from_checkpoints = row.type >= DType::kG2;  // read, never written
    const bool can = row.quantised() && !from_checkpoints;
    EXPECT_EQ(can_quantise_search(row.type), can);
    if (can) continue;
    try {
      quantise_row_search(row.type, x, 256, nullptr, out);
      FAIL() << row.name;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kUnimplemented);
      EXPECT_NE(std::string(e.what()).find(row.name), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace hob
