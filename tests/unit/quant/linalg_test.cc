#include "quant/linalg.h"

#include <gtest/gtest.h>

#include <cmath>

#include "unit/quant/quant_util.h"

namespace hob {
namespace {

std::vector<double> positive_definite(int n, uint64_t seed) {
  const std::vector<float> h = test::correlated_hessian(n, 2 * n + 3, seed);
  return {h.begin(), h.end()};
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); i++) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

class Sizes : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Linalg, Sizes, testing::Values(1, 2, 7, 63, 64, 65, 130, 200));

TEST_P(Sizes, FactorTimesItselfIsTheMatrix) {
  const int n = GetParam();
  const std::vector<double> a = positive_definite(n, 1);
  std::vector<double> lower = a;
  ThreadPool pool(2);
  ASSERT_TRUE(cholesky_lower(lower, n, pool));
  const auto index = [n](int i, int j) {
    return static_cast<size_t>(i) * static_cast<size_t>(n) + static_cast<size_t>(j);
  };
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      double sum = 0;
      for (int k = 0; k < n; k++) sum += lower[index(i, k)] * lower[index(j, k)];
      ASSERT_NEAR(sum, a[index(i, j)], 1e-9 * n) << i << "," << j;
      if (j > i) {
        ASSERT_EQ(lower[index(i, j)], 0);
      }
    }
}

TEST_P(Sizes, UpperFactorIsThatOfThePaper) {
  const int n = GetParam();
  const std::vector<double> h = positive_definite(n, 2);
  ThreadPool pool(2);
  const auto fast = upper_factor_of_inverse(h, n, pool);
  ASSERT_TRUE(fast);
  EXPECT_LT(largest_difference(*fast, test::slow_upper_factor(h, n)), 1e-8);
}

TEST(Linalg, ThreadsDoNotChangeTheBits) {
  const std::vector<double> h = positive_definite(150, 3);
  ThreadPool one(1), three(3);
  EXPECT_EQ(*upper_factor_of_inverse(h, 150, one), *upper_factor_of_inverse(h, 150, three));
}

TEST(Linalg, RefusesWhatIsNotPositiveDefinite) {
  ThreadPool pool(1);
  std::vector<double> indefinite = {1, 2, 2, 1};
  EXPECT_FALSE(cholesky_lower(indefinite, 2, pool));
  std::vector<double> not_a_number = {std::nan("")};
  EXPECT_FALSE(cholesky_lower(not_a_number, 1, pool));
  EXPECT_FALSE(upper_factor_of_inverse(std::vector<double>{0}, 1, pool));
}

}  // namespace
}  // namespace hob
