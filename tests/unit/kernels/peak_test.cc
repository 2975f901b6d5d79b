// The peak loops do the work that they say: their results are the sums of all counted products.
#include <gtest/gtest.h>

#include "kernels/table.h"

namespace hob {
namespace {

class Peak : public testing::TestWithParam<const KernelTable*> {};

TEST_P(Peak, DotDoesWhatItCounts) {
  for (const int n_rounds : {0, 1, 100, KernelTable::kMaxPeakRounds}) {
    int32_t result = -1;
    const uint64_t n = GetParam()->peak_dot(n_rounds, &result);
    if (n_rounds == 0) {
      EXPECT_EQ(n, 0u);
      EXPECT_EQ(result, 0);
      continue;
    }
    // Sum s multiplies 8 lines of 64 codes, 0 .. 15 again and again, with s + 1.
    constexpr int64_t kCodes = 8 * 64;
    ASSERT_EQ(n % static_cast<uint64_t>(kCodes * n_rounds), 0u);
    const int64_t n_sums = static_cast<int64_t>(n) / kCodes / n_rounds;
    EXPECT_GE(n_sums, 3);
    EXPECT_EQ(result, n_rounds * kCodes / 16 * (15 * 16 / 2) * (n_sums * (n_sums + 1) / 2));
  }
}

TEST_P(Peak, FmaDoesWhatItCounts) {
  float result = 0;
  const uint64_t n = GetParam()->peak_fma(100, &result);
  // x -> x / 2 + 1 ends at 2 in every lane of every sum.
  EXPECT_EQ(result, 2.f * static_cast<float>(n / 100));
  EXPECT_GE(n, 3u * 16 * 100);
}

std::vector<const KernelTable*> all_tables() {
  const KernelTable* all[8];
  return {all, all + supported_kernels(all)};
}
INSTANTIATE_TEST_SUITE_P(Isa, Peak, testing::ValuesIn(all_tables()),
                         [](const auto& p) { return std::string(p.param->isa); });

}  // namespace
}  // namespace hob
