#include "quant/hessian.h"

#include <gtest/gtest.h>

#include <cmath>

#include "unit/quant/quant_util.h"

namespace hob {
namespace {

constexpr int kInputs = 37, kSamples = 700;

Mat rows_of(std::vector<float>& x, int first, int n) {
  return {x.data() + static_cast<ptrdiff_t>(first) * kInputs, n, kInputs, kInputs};
}

TEST(Hessian, IsTheMeanOfTheOuterProducts) {
  std::vector<float> x = test::normal_values(kInputs * kSamples, 31);
  ThreadPool pool(3);
  HessianSum sum(kInputs);
  sum.add(rows_of(x, 0, 1), pool);
  sum.add(rows_of(x, 1, kSamples - 1), pool);
  EXPECT_EQ(sum.n_rows(), kSamples);
  const std::vector<float> h = sum.hessian(), magnitude = sum.mean_magnitude();
  for (size_t i = 0; i < kInputs; i++) {
    double mean = 0;
    for (size_t s = 0; s < kSamples; s++) mean += std::abs(x[s * kInputs + i]) / kSamples;
    EXPECT_NEAR(magnitude[i], mean, 1e-5);
    for (size_t j = 0; j < kInputs; j++) {
      double expected = 0;
      for (size_t s = 0; s < kSamples; s++)
        expected += 2.0 * static_cast<double>(x[s * kInputs + i]) *
                    static_cast<double>(x[s * kInputs + j]) / kSamples;
      ASSERT_NEAR(h[i * kInputs + j], expected, 1e-4) << i << "," << j;
    }
  }
}

TEST(Hessian, ThreadsDoNotChangeTheBits) {
  std::vector<float> x = test::normal_values(kInputs * kSamples, 32);
  ThreadPool one(1), three(3);
  HessianSum a(kInputs), b(kInputs);
  a.add(rows_of(x, 0, kSamples), one);
  b.add(rows_of(x, 0, kSamples), three);
  EXPECT_EQ(a.hessian(), b.hessian());
}

TEST(Hessian, BorrowedRowsWeighAsAsked) {
  std::vector<float> x = test::normal_values(kInputs * 30, 33);
  ThreadPool pool(1);
  HessianSum own(kInputs), all(kInputs), twice(kInputs);
  own.add(rows_of(x, 0, 10), pool);
  all.add(rows_of(x, 10, 20), pool);
  own.add(all, 0.5);
  EXPECT_DOUBLE_EQ(own.n_rows(), 20);
  twice.add(rows_of(x, 0, 10), pool);
  twice.add(rows_of(x, 0, 10), pool);
  twice.add(rows_of(x, 10, 20), pool);
  const std::vector<float> h = own.hessian(), expected = twice.hessian();
  for (size_t i = 0; i < h.size(); i++) ASSERT_NEAR(h[i], expected[i], 1e-5);
}

TEST(Hessian, WithoutRowsIsZero) {
  const HessianSum sum(3);
  EXPECT_EQ(sum.hessian(), std::vector<float>(9));
  EXPECT_EQ(sum.mean_magnitude(), std::vector<float>(3));
}

}  // namespace
}  // namespace hob
