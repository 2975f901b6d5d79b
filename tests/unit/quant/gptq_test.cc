#include "quant/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "tensor/half.h"
#include "unit/quant/quant_util.h"

namespace hob {
namespace {

constexpr int kRows = 19, kCols = 192;

struct Problem {
  std::vector<float> w = test::normal_values(kRows * kCols, 11);
  std::vector<float> hessian = test::correlated_hessian(kCols, 600, 12);
};

std::string error_text(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(GptqGrid, EveryCodeOfAGridFindsItself) {
  const std::vector<float> w = test::normal_values(32, 1);
  for (const GridKind kind : {GridKind::kSymmetric, GridKind::kZeroPoint, GridKind::kOffset})
    for (int bits = 2; bits <= 8; bits++) {
      const GroupGrid g = choose_grid({.bits = bits, .group = 32, .kind = kind}, w);
      for (int code = 0; code < 1 << bits; code++) EXPECT_EQ(g.code(g.value(code)), code);
      EXPECT_EQ(g.code(1e9f), (1 << bits) - 1);
      EXPECT_EQ(g.code(-1e9f), 0);
    }
}

TEST(GptqGrid, ScalesAreHalves) {
  const std::vector<float> w = test::normal_values(64, 2);
  for (const GridKind kind : {GridKind::kSymmetric, GridKind::kZeroPoint, GridKind::kOffset}) {
    const GroupGrid g = choose_grid({.bits = 3, .group = 64, .kind = kind}, w);
    EXPECT_EQ(g.scale, f16_to_f32(f32_to_f16(g.scale)));
    EXPECT_EQ(g.offset, f16_to_f32(f32_to_f16(g.offset)));
    EXPECT_TRUE(g.zero >= 0 && g.zero <= 7);
  }
}

TEST(GptqGrid, GroupsOfOneValue) {
  for (const float x : {0.0f, 0.5f, -0.25f}) {
    const std::vector<float> w(32, x);
    for (const GridKind kind : {GridKind::kSymmetric, GridKind::kZeroPoint, GridKind::kOffset}) {
      const GroupGrid g = choose_grid({.bits = 4, .group = 32, .kind = kind}, w);
      EXPECT_NEAR(g.value(g.code(x)), x, 0.04) << x << " " << static_cast<int>(kind);
    }
  }
}

TEST(GptqGrid, SearchIsNotWorseThanTheRange) {
  ThreadPool pool(1);
  const std::vector<float> w = test::normal_values(64 * 32, 3);
  const auto error = [&](int shrink) {
    const auto q = rtn_quantise(w, 64, 32, {.bits = 3, .group = 32, .max_shrink = shrink}, pool);
    const std::vector<float> values = q.dequantise();
    double total = 0;
    for (size_t i = 0; i < w.size(); i++) total += std::pow(std::abs(w[i] - values[i]), 2.4);
    return total;
  };
  EXPECT_LT(error(20), 0.98 * error(0));
}

// All that a user may choose.
struct Case {
  GridKind kind;
  int bits, group;
  bool act_order;
};
class Gptq : public testing::TestWithParam<Case> {
 protected:
  static GptqParams params() {
    return {.grid = {.bits = GetParam().bits, .group = GetParam().group, .kind = GetParam().kind},
            .act_order = GetParam().act_order};
  }
};
INSTANTIATE_TEST_SUITE_P(All, Gptq,
                         testing::Values(Case{GridKind::kOffset, 4, 32, false},
                                         Case{GridKind::kOffset, 3, 64, true},
                                         Case{GridKind::kSymmetric, 4, 32, true},
                                         Case{GridKind::kSymmetric, 2, 96, false},
                                         Case{GridKind::kZeroPoint, 3, 64, false},
                                         Case{GridKind::kZeroPoint, 4, 0, true}));

TEST_P(Gptq, OutputErrorIsClearlyBelowRoundToNearest) {
  const Problem p;
  ThreadPool pool(2);
  const auto gptq = gptq_quantise(p.w, kRows, kCols, p.hessian, params(), pool).dequantise();
  const auto rtn = rtn_quantise(p.w, kRows, kCols, params().grid, pool).dequantise();
  const double ours = output_error(p.w, gptq, kRows, kCols, p.hessian, pool);
  EXPECT_GT(ours, 0);
  EXPECT_LT(ours, 0.5 * output_error(p.w, rtn, kRows, kCols, p.hessian, pool));
}

TEST_P(Gptq, AgreesWithTheTextbook) {
  const Problem p;
  ThreadPool pool(2);
  const auto fast = gptq_quantise(p.w, kRows, kCols, p.hessian, params(), pool);
  const auto slow = test::slow_gptq(p.w, kRows, kCols, p.hessian, params());
  // The factors differ in their last bits; a weight half-way between two codes may go either way,
  // and then those after it move a little.
  size_t n_other = 0;
  for (size_t i = 0; i < fast.codes.size(); i++) n_other += fast.codes[i] != slow.codes[i];
  EXPECT_LE(n_other, fast.codes.size() / 200);
}

TEST_P(Gptq, ThreadsDoNotChangeTheCodes) {
  const Problem p;
  ThreadPool one(1), three(3);
  const auto a = gptq_quantise(p.w, kRows, kCols, p.hessian, params(), one);
  const auto b = gptq_quantise(p.w, kRows, kCols, p.hessian, params(), three);
  EXPECT_EQ(a.codes, b.codes);
  EXPECT_EQ(a.dequantise(), b.dequantise());
}

TEST(GptqFaults, DeadInputsAreCountedAndCostNothing) {
  Problem p;
  for (const int dead : {0, 40, 191})
    for (int c = 0; c < kCols; c++)
      p.hessian[static_cast<size_t>(dead * kCols + c)] =
          p.hessian[static_cast<size_t>(c * kCols + dead)] = 0;
  ThreadPool pool(1);
  GptqReport report;
  const auto q = gptq_quantise(p.w, kRows, kCols, p.hessian, {.act_order = true}, pool, &report);
  EXPECT_EQ(report.n_dead, 3);
  EXPECT_EQ(report.damp, 0.01);
}

TEST(GptqFaults, DampRisesUntilTheMatrixCanBeFactored) {
  const Problem p;
  std::vector<float> one_input(kCols * kCols, 1.0f);  // rank 1: all inputs always equal
  ThreadPool pool(1);
  GptqReport report;
  gptq_quantise(p.w, kRows, kCols, one_input, {.damp = 0}, pool, &report);
  EXPECT_GT(report.damp, 0);
  EXPECT_LE(report.damp, 0.01);
}

TEST(GptqFaults, EachBadInputIsNamed) {
  ThreadPool pool(1);
  const auto run = [&](const Problem& p, const GptqParams& params) {
    return error_text([&] { gptq_quantise(p.w, kRows, kCols, p.hessian, params, pool); });
  };
  const Problem good;
  Problem bad_weight, bad_hessian, indefinite;
  bad_weight.w[7] = std::nanf("");
  bad_hessian.hessian[7] = INFINITY;
  for (int c = 0; c + 1 < kCols; c += 2)
    indefinite.hessian[static_cast<size_t>(c * kCols + c + 1)] =
        indefinite.hessian[static_cast<size_t>((c + 1) * kCols + c)] = 1e9f;
  EXPECT_EQ(run(bad_weight, {}), "[quant] weights: expected numbers of at most 65504, found nan");
  EXPECT_EQ(run(bad_hessian, {}),
            "[quant] Hessian: expected numbers of at most 3.4028235e+38, found inf");
  EXPECT_EQ(run(indefinite, {}),
            "[quant] Hessian of 192 inputs: expected a positive definite matrix once damped, it is "
            "not");
  EXPECT_EQ(run(good, {.grid = {.bits = 1}}), "[quant] bits: expected 2 to 8, got 1");
  EXPECT_EQ(run(good, {.grid = {.group = 50}}),
            "[quant] group: expected a divisor of the row's 192 weights, got 50");
  EXPECT_EQ(run(good, {.damp = -1}), "[quant] damp: expected 0 to 1, got -1");
}

}  // namespace
}  // namespace hob
