#include "tensor/dequant.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "unit/tensor/golden.h"

namespace hob {
namespace {

class Dequant : public testing::TestWithParam<DTypeInfo> {};

TEST_P(Dequant, EqualsGoldenBitForBit) {
  const DTypeInfo info = GetParam();
  const Golden golden = read_golden("dequant_" + std::string(info.name));
  const auto n = static_cast<int64_t>(golden.values.size());
  ASSERT_GE(n, 24 * info.block);
  ASSERT_EQ(row_bytes(info.type, n), golden.blocks.size());
  std::vector<float> out(golden.values.size());
  dequantise_row(info.type, golden.blocks.data(), n, out.data());
  size_t n_finite = 0;
  for (size_t i = 0; i < out.size(); i++) {
    if (std::isnan(golden.values[i])) {  // which NaN is not part of the format
      ASSERT_TRUE(std::isnan(out[i])) << "element " << i;
      continue;
    }
    n_finite += std::isfinite(out[i]);
    ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(golden.values[i]))
        << "element " << i << ": " << out[i] << " instead of " << golden.values[i];
  }
  EXPECT_GT(n_finite, out.size() / 2);
}

TEST_P(Dequant, AnySourceAlignmentAndNothingBeyondTheRow) {
  const DTypeInfo info = GetParam();
  const Golden golden = read_golden("dequant_" + std::string(info.name));
  const int64_t n = info.block == 1 ? 7 : 2 * info.block;
  const size_t n_bytes = row_bytes(info.type, n);
  std::vector<std::byte> shifted(n_bytes + 1);
  std::memcpy(shifted.data() + 1, golden.blocks.data(), n_bytes);
  std::vector<float> out(static_cast<size_t>(n) + 1, 123.0f), straight(static_cast<size_t>(n));
  dequantise_row(info.type, shifted.data() + 1, n, out.data());
  dequantise_row(info.type, golden.blocks.data(), n, straight.data());
  EXPECT_EQ(std::memcmp(out.data(), straight.data(), straight.size() * sizeof(float)), 0);
  EXPECT_EQ(out.back(), 123.0f);
}

std::vector<DTypeInfo> types_with_golden() {
  std::vector<DTypeInfo> types;
  for (const DTypeInfo& row : dtype_table()) {
    if (row.type != DType::kF32) types.push_back(row);
  }
  return types;
}

INSTANTIATE_TEST_SUITE_P(Types, Dequant, testing::ValuesIn(types_with_golden()),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(DequantF32, CopiesEveryBitPattern) {
  const uint32_t bits[] = {0x00000000, 0x80000000, 0x3F800000, 0x7FA00001, 0x00000001};
  float out[5];
  dequantise_row(DType::kF32, reinterpret_cast<const std::byte*>(bits), 5, out);
  EXPECT_EQ(std::memcmp(out, bits, sizeof bits), 0);
}

TEST(DequantRow, PartOfABlockIsABug) {
  std::byte block[18] = {};
  float out[32];
  EXPECT_DEATH(dequantise_row(DType::kQ4_0, block, 16, out), "n % block == 0");
}

}  // namespace
}  // namespace hob
