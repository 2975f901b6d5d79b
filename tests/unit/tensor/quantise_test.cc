#include "tensor/quantise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/dequant.h"
#include "unit/tensor/golden.h"

namespace hob {
namespace {

std::vector<float> normal(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0.0f, 0.02f);
  std::vector<float> x(n);
  for (float& v : x) v = distribution(random);
  return x;
}

std::vector<float> there_and_back(DType type, const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> packed(row_bytes(type, n));
  quantise_row(type, x.data(), n, packed.data());
  std::vector<float> y(x.size());
  dequantise_row(type, packed.data(), n, y.data());
  return y;
}

// Error power over signal power.
double nmse(const std::vector<float>& x, const std::vector<float>& y) {
  double error = 0, signal = 0;
  for (size_t i = 0; i < x.size(); i++) {
    error += std::pow(static_cast<double>(x[i]) - y[i], 2);
    signal += std::pow(static_cast<double>(x[i]), 2);
  }
  return error / signal;
}

struct Bound {
  DType type;
  double max_nmse;  // about 1.3 times what normally distributed weights give
};

class Quantise : public testing::TestWithParam<Bound> {};

TEST_P(Quantise, ErrorOnNormalWeights) {
  const auto x = normal(256 * 400, 7);
  const double error = nmse(x, there_and_back(GetParam().type, x));
  EXPECT_LT(error, GetParam().max_nmse);
  EXPECT_GE(error, GetParam().max_nmse / 3) << "the bound is loose";
}

TEST_P(Quantise, ZerosStayZeroAndSignsSurvive) {
  const DType type = GetParam().type;
  const std::vector<float> zeros(512, 0.0f);
  EXPECT_EQ(there_and_back(type, zeros), zeros);
  for (const float v : {1.0f, -1.0f}) {
    for (const float y : there_and_back(type, std::vector<float>(512, v))) EXPECT_NEAR(y, v, 0.07f);
  }
}

TEST_P(Quantise, ExtremesStayInsideTheirRange) {
  const DType type = GetParam().type;
  auto x = normal(512, 3);
  x[5] = 100.0f;
  x[300] = -100.0f;
  for (const float y : there_and_back(type, x)) EXPECT_LE(std::fabs(y), 110.0f);
  x[0] = std::numeric_limits<float>::quiet_NaN();  // any result, but defined behaviour
  x[1] = std::numeric_limits<float>::infinity();
  x[2] = std::numeric_limits<float>::denorm_min();
  there_and_back(type, x);
}

INSTANTIATE_TEST_SUITE_P(Types, Quantise,
                         testing::Values(Bound{DType::kF16, 1e-7}, Bound{DType::kBF16, 4e-6},
                                         Bound{DType::kQ8_0, 4e-5}, Bound{DType::kQ4_0, 1.1e-2},
                                         Bound{DType::kQ4_1, 8.5e-3}, Bound{DType::kQ5_0, 2.6e-3},
                                         Bound{DType::kQ5_1, 2e-3}, Bound{DType::kQ4_K, 9e-3},
                                         Bound{DType::kQ6_K, 6e-4}),
                         [](const auto& param) {
                           return std::string(dtype_info(param.param.type).name);
                         });

TEST(QuantiseRow, EverySubBlockScaleIsPackedWhereTheReaderLooks) {
  // Sub-block j spans [-2(j+1), 3(j+1)]: eight different scales and minima, so that a wrong place
  // shows.
  std::vector<float> x(256);
  for (int i = 0; i < 256; i++) {
    const float t = static_cast<float>(i % 32) / 31.0f;
    x[static_cast<size_t>(i)] = static_cast<float>(i / 32 + 1) * (5 * t - 2);
  }
  EXPECT_LT(nmse(x, there_and_back(DType::kQ4_K, x)), 5e-3);
  EXPECT_LT(nmse(x, there_and_back(DType::kQ6_K, x)), 3e-4);
}

TEST(QuantiseRow, BytesEqualTheGolden) {
  for (const char* name : {"F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}) {
    const Golden golden = read_golden(std::string("quantise_") + name);
    std::vector<std::byte> out(golden.blocks.size());
    const auto n = static_cast<int64_t>(golden.values.size());
    ASSERT_EQ(row_bytes(find_dtype(name)->type, n), out.size());
    quantise_row(find_dtype(name)->type, golden.values.data(), n, out.data());
    EXPECT_EQ(out, golden.blocks) << name;
  }
}

TEST(QuantiseRow, Q8_0ByHand) {
  std::vector<float> x(32, 0.0f);
  x[0] = -127.0f;
  x[1] = 2.5f;  // half-way: away from zero
  x[2] = -2.5f;
  x[31] = 126.4f;
  BlockQ8_0 block;
  quantise_row(DType::kQ8_0, x.data(), 32, reinterpret_cast<std::byte*>(&block));
  EXPECT_EQ(block.d, 0x3C00);
  EXPECT_EQ(block.qs[0], -127);
  EXPECT_EQ(block.qs[1], 3);
  EXPECT_EQ(block.qs[2], -3);
  EXPECT_EQ(block.qs[31], 126);
}

TEST(QuantiseRow, OtherTypesAreNamed) {
  float x[256] = {};
  std::byte out[256];
  for (const DTypeInfo& row : dtype_table()) {
    if (can_quantise(row.type)) continue;
    try {
      quantise_row(row.type, x, 256, out);
      FAIL() << row.name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUnimplemented);
      EXPECT_NE(std::string(error.what()).find(row.name), std::string::npos);
    }
  }
  EXPECT_TRUE(can_quantise(DType::kF32) && !can_quantise(DType::kQ2_K));
}

}  // namespace
}  // namespace hob
