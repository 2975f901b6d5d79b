// The searching quantisers of the types that only files have (low copies': quantise_search_test).
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tensor/dequant.h"
#include "tensor/quantise.h"
#include "tensor/quantise_search.h"

namespace hob {
namespace {

using Floats = std::vector<float>;
constexpr size_t kCols = 2048;

Floats heavy_tailed(unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  Floats x(kCols);
  for (float& v : x) v = normal(random) * (1 + std::fabs(normal(random))) * 0.02f;
  return x;
}

std::vector<std::byte> search(DType type, const Floats& x, const Floats& importance) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> packed(row_bytes(type, n));
  quantise_row_search(type, x.data(), n, importance.data(), packed.data());
  return packed;
}

double error(DType type, const Floats& x, const std::vector<std::byte>& packed, const Floats& w) {
  Floats y(x.size());
  dequantise_row(type, packed.data(), static_cast<int64_t>(x.size()), y.data());
  double sum = 0, norm = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double miss = static_cast<double>(x[i]) - y[i];
    sum += static_cast<double>(w[i]) * miss * miss;
    norm += static_cast<double>(w[i]) * x[i] * x[i];
  }
  return std::sqrt(sum / norm);
}

const Floats kEqual(kCols, 1.0f);

struct Bound {
  DType type;
  double error;  // relative, of these weights; ggml's own is above (tools/compare_quantisers.py)
};
constexpr Bound kBounds[] = {
    {DType::kQ4_1, 0.085},   {DType::kQ5_0, 0.057},  {DType::kQ5_1, 0.042},
    {DType::kQ5_K, 0.043},   {DType::kQ6_K, 0.023},  {DType::kIQ4_NL, 0.092},
    {DType::kIQ4_XS, 0.093}, {DType::kMXFP4, 0.129}, {DType::kQ8_0, 0.0075}};

TEST(QuantiseTypes, ErrorIsSmall) {
  for (const Bound& bound : kBounds) {
    const Floats x = heavy_tailed(1);
    const double found = error(bound.type, x, search(bound.type, x, kEqual), kEqual);
    EXPECT_LT(found, bound.error) << dtype_info(bound.type).name;
    EXPECT_GT(found, bound.error / 2) << dtype_info(bound.type).name;
  }
}

TEST(QuantiseTypes, SearchBeatsPlainRounding) {
  for (const DType type : {DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ6_K}) {
    const Floats x = heavy_tailed(2);
    std::vector<std::byte> plain(row_bytes(type, kCols));
    quantise_row(type, x.data(), kCols, plain.data());
    EXPECT_LT(error(type, x, search(type, x, kEqual), kEqual), error(type, x, plain, kEqual))
        << dtype_info(type).name;
  }
}

TEST(QuantiseTypes, ImportanceLowersTheErrorItWeighs) {
  for (const Bound& bound : kBounds) {
    if (bound.type == DType::kQ8_0) continue;  // has no search
    const Floats x = heavy_tailed(3);
    Floats importance = kEqual;
    for (size_t i = 0; i < kCols; i += 5) importance[i] = 40;
    const auto weighted = search(bound.type, x, importance), equal = search(bound.type, x, kEqual);
    EXPECT_LT(error(bound.type, x, weighted, importance), error(bound.type, x, equal, importance))
        << dtype_info(bound.type).name;
  }
}

TEST(QuantiseTypes, ZerosStayZeros) {
  const Floats x(kCols, 0.0f);
  for (const Bound& bound : kBounds) {
    Floats y(kCols, 1.0f);
    dequantise_row(bound.type, search(bound.type, x, kEqual).data(), kCols, y.data());
    EXPECT_EQ(y, x) << dtype_info(bound.type).name;
  }
}

TEST(QuantiseTypes, ValuesOfTheFormatComeBack) {
  Floats x(kCols);
  for (const auto& [type, values] :
       {std::pair{DType::kIQ4_NL,
                  Floats{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}},
        std::pair{DType::kMXFP4,
                  Floats{0, 1, 2, 3, 4, 6, 8, 12, -1, -2, -3, -4, -6, -8, -12, 0}}}) {
    for (size_t i = 0; i < kCols; i++) x[i] = values[i % 16] * 0.0078125f;
    EXPECT_LT(error(type, x, search(type, x, kEqual), kEqual), 1e-6) << dtype_info(type).name;
  }
}

}  // namespace
}  // namespace hob
