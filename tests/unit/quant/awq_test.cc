#include "quant/awq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "quant/gptq.h"
#include "unit/quant/quant_util.h"

namespace hob {
namespace {

constexpr int kRows = 40, kCols = 128;

// A few input channels are far larger than all others, as in real models.
struct Problem {
  std::vector<float> w = test::normal_values(kRows * kCols, 21);
  std::vector<float> hessian = test::correlated_hessian(kCols, 500, 22);
  std::vector<float> magnitude = std::vector<float>(kCols, 1.0f);
  Problem() {
    for (const size_t loud : {3u, 50u, 99u}) {
      magnitude[loud] = 30;
      for (size_t c = 0; c < kCols; c++) {
        hessian[loud * kCols + c] *= 30;
        hessian[c * kCols + loud] *= 30;
      }
    }
  }
};

TEST(Awq, LoudInputsGetFinerSteps) {
  const Problem p;
  ThreadPool pool(2);
  const AwqMatrix m{.w = p.w, .rows = kRows, .hessian = &p.hessian};
  const AwqScales found = awq_search({&m, 1}, p.magnitude, {.bits = 3, .group = 32}, pool);
  EXPECT_GT(found.exponent, 0);
  EXPECT_LT(found.error, 0.5 * found.plain_error);
  EXPECT_GT(found.s[3], found.s[4]);
}

TEST(Awq, SearchReportsTheErrorThatItsScalesHave) {
  const Problem p;
  ThreadPool pool(2);
  const GridParams grid{.bits = 3, .group = 32, .max_shrink = 0};
  const AwqMatrix m{.w = p.w, .rows = kRows, .hessian = &p.hessian};
  const AwqScales found = awq_search({&m, 1}, p.magnitude, grid, pool);
  std::vector<float> scaled = p.w;
  for (size_t i = 0; i < scaled.size(); i++) scaled[i] *= found.s[i % kCols];
  std::vector<float> back =
      awq_quantise(scaled, kRows, kCols, scaled_hessian(p.hessian, found.s), grid, pool)
          .dequantise();
  for (size_t i = 0; i < back.size(); i++) back[i] /= found.s[i % kCols];
  const double error = output_error(p.w, back, kRows, kCols, p.hessian, pool);
  EXPECT_NEAR(found.error, error, 1e-3 * error);
}

TEST(Awq, ScalingInputsAndWeightsLeavesTheOutputError) {
  const Problem p;
  ThreadPool pool(1);
  std::vector<float> s(kCols), moved = p.w, scaled = p.w, scaled_moved = p.w;
  for (size_t c = 0; c < kCols; c++) s[c] = 0.5f + static_cast<float>(c % 7);
  for (size_t i = 0; i < moved.size(); i++) {
    moved[i] += 0.1f * std::sin(static_cast<float>(i));
    scaled[i] *= s[i % kCols];
    scaled_moved[i] = moved[i] * s[i % kCols];
  }
  const double plain = output_error(p.w, moved, kRows, kCols, p.hessian, pool);
  EXPECT_NEAR(plain,
              output_error(scaled, scaled_moved, kRows, kCols, scaled_hessian(p.hessian, s), pool),
              1e-3 * plain);
}

TEST(Awq, CutsRangesWhereThatHelpsTheOutput) {
  const Problem p;
  ThreadPool pool(2);
  const GridParams grid{.bits = 3, .group = 32};
  const GridParams plain{.bits = 3, .group = 32, .max_shrink = 0};
  const auto error = [&](const QuantisedMatrix& q) {
    return output_error(p.w, q.dequantise(), kRows, kCols, p.hessian, pool);
  };
  EXPECT_LT(error(awq_quantise(p.w, kRows, kCols, p.hessian, grid, pool)),
            error(rtn_quantise(p.w, kRows, kCols, plain, pool)));
}

}  // namespace
}  // namespace hob
