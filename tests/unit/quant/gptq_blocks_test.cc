#include "quant/gptq_blocks.h"

#include <gtest/gtest.h>

#include "quant/gptq.h"
#include "tensor/dequant.h"
#include "unit/quant/quant_util.h"

namespace hob {
namespace {

struct Case {
  GridKind kind;
  int bits;
  DType type;
};
class Blocks : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, Blocks,
                         testing::Values(Case{GridKind::kSymmetric, 4, DType::kQ4_0},
                                         Case{GridKind::kOffset, 4, DType::kQ4_1},
                                         Case{GridKind::kSymmetric, 8, DType::kQ8_0}));

TEST_P(Blocks, ReadersGetTheVeryValues) {
  const GridParams grid{.bits = GetParam().bits, .group = 32, .kind = GetParam().kind};
  ASSERT_EQ(block_type(grid), GetParam().type);
  const std::vector<float> w = test::normal_values(5 * 96, 41);
  ThreadPool pool(1);
  const QuantisedMatrix q = rtn_quantise(w, 5, 96, grid, pool);
  std::vector<std::byte> bytes;
  append_blocks(q, GetParam().type, bytes);
  ASSERT_EQ(bytes.size(), 5 * row_bytes(GetParam().type, 96));
  std::vector<float> read(w.size());
  dequantise_row(GetParam().type, bytes.data(), static_cast<int64_t>(w.size()), read.data());
  EXPECT_EQ(read, q.dequantise());
}

TEST(BlockType, NothingForGridsThatGgufLacks) {
  EXPECT_FALSE(block_type({.bits = 3, .group = 32}));
  EXPECT_FALSE(block_type({.bits = 4, .group = 64}));
  EXPECT_FALSE(block_type({.bits = 4, .group = 32, .kind = GridKind::kZeroPoint}));
}

}  // namespace
}  // namespace hob
