#include "quant/gptq_refine.h"

#include <gtest/gtest.h>

#include <cmath>

#include "quant/calibration.h"
#include "quant/gptq.h"
#include "tensor/half.h"
#include "unit/quant/quant_util.h"

namespace hob {
namespace {

constexpr int kRows = 19, kCols = 96;
constexpr GridKind kKinds[] = {GridKind::kSymmetric, GridKind::kZeroPoint, GridKind::kOffset};

struct Problem {
  std::vector<float> w = test::normal_values(kRows * kCols, 21);
  std::vector<float> hessian = test::correlated_hessian(kCols, 600, 22);
  ThreadPool pool{2};

  QuantisedMatrix rounded(GridKind kind, int bits) {
    return rtn_quantise(w, kRows, kCols, {.bits = bits, .group = 32, .kind = kind}, pool);
  }
  double loss(const QuantisedMatrix& q, int row) {
    const std::vector<float> values = q.dequantise();
    const auto of_row = [&](const std::vector<float>& v) {
      return std::span(v).subspan(static_cast<size_t>(row) * kCols, kCols);
    };
    return output_error(of_row(w), of_row(values), 1, kCols, hessian, pool);
  }
};

TEST(RefineQuantised, NoRowGetsWorseAndAllTogetherMuchBetter) {
  for (const GridKind kind : kKinds)
    for (const int bits : {2, 3, 4}) {
      Problem p;
      const QuantisedMatrix before = p.rounded(kind, bits);
      QuantisedMatrix after = before;
      refine_quantised(p.w, p.hessian, 0, 4, after, p.pool);
      double all_before = 0, all_after = 0;
      for (int r = 0; r < kRows; r++) {
        const double was = p.loss(before, r), is = p.loss(after, r);
        EXPECT_LE(is, was * 1.0001) << static_cast<int>(kind) << " " << bits << " row " << r;
        all_before += was;
        all_after += is;
      }
      EXPECT_LT(all_after, 0.7 * all_before) << static_cast<int>(kind) << " " << bits;
    }
}

// Nothing is left to gain by moving one code: tried one by one, in f64, without any shortcut.
TEST(RefineQuantised, NoSingleCodeCanBeBetter) {
  for (const GridKind kind : kKinds) {
    Problem p;
    QuantisedMatrix q = p.rounded(kind, 3);
    refine_quantised(p.w, p.hessian, 0, 60, q, p.pool);
    for (int c = 0; c < kCols; c++)
      for (const int step : {-1, 1}) {
        QuantisedMatrix other = q;
        const int code = q.codes[static_cast<size_t>(c)] + step;
        if (code < 0 || code > 7) continue;
        other.codes[static_cast<size_t>(c)] = static_cast<uint8_t>(code);
        EXPECT_GT(p.loss(other, 0), p.loss(q, 0) * 0.999) << static_cast<int>(kind) << " at " << c;
      }
  }
}

// Right codes on wrong grids: least squares finds the grids.
TEST(RefineQuantised, FindsTheScalesAndOffsetsThatMadeTheWeights) {
  for (const GridKind kind : kKinds) {
    Problem p;
    const QuantisedMatrix truth = p.rounded(kind, 3);
    p.w = truth.dequantise();
    QuantisedMatrix q = truth;
    for (GroupGrid& g : q.grids) {
      g.scale = f16_to_f32(f32_to_f16(g.scale * 1.004f));
      g.offset = f16_to_f32(f32_to_f16(g.offset * 0.997f));
    }
    refine_quantised(p.w, p.hessian, 0, 3, q, p.pool);
    EXPECT_EQ(q.codes, truth.codes);
    for (size_t i = 0; i < q.grids.size(); i++) {
      EXPECT_NEAR(q.grids[i].scale, truth.grids[i].scale, 1e-3f * truth.grids[i].scale);
      EXPECT_NEAR(q.grids[i].offset, truth.grids[i].offset, 2e-3f);
    }
  }
}

TEST(RefineQuantised, GridsStayInTheFilesNumbers) {
  for (const GridKind kind : kKinds) {
    Problem p;
    const QuantisedMatrix before = p.rounded(kind, 4);
    QuantisedMatrix q = before;
    refine_quantised(p.w, p.hessian, 0.01, 3, q, p.pool);
    for (size_t i = 0; i < q.grids.size(); i++) {
      const GroupGrid& g = q.grids[i];
      EXPECT_EQ(g.scale, f16_to_f32(f32_to_f16(g.scale)));
      EXPECT_EQ(g.offset, f16_to_f32(f32_to_f16(g.offset)));
      EXPECT_EQ(g.zero, before.grids[i].zero);
      if (kind != GridKind::kOffset) {
        EXPECT_EQ(g.offset, 0);
      }
    }
  }
}

TEST(RefineQuantised, ThreadsDoNotChangeIt) {
  Problem p;
  QuantisedMatrix one = p.rounded(GridKind::kOffset, 3), three = one;
  ThreadPool single(1), many(3);
  refine_quantised(p.w, p.hessian, 0.01, 4, one, single);
  refine_quantised(p.w, p.hessian, 0.01, 4, three, many);
  EXPECT_EQ(one.codes, three.codes);
  EXPECT_EQ(one.dequantise(), three.dequantise());
}

// Inputs that are always 0, a row of zeros, a group of one value.
TEST(RefineQuantised, DegenerateRowsStayFinite) {
  Problem p;
  for (int c = 32; c < 64; c++)
    for (int other = 0; other < kCols; other++)
      p.hessian[static_cast<size_t>(c * kCols + other)] =
          p.hessian[static_cast<size_t>(other * kCols + c)] = 0;
  for (int c = 0; c < kCols; c++) p.w[static_cast<size_t>(c)] = 0;
  for (int c = 0; c < 32; c++) p.w[static_cast<size_t>(kCols + c)] = 0.25f;
  for (const GridKind kind : kKinds) {
    QuantisedMatrix q = p.rounded(kind, 3);
    refine_quantised(p.w, p.hessian, 0, 4, q, p.pool);
    for (const float x : q.dequantise()) ASSERT_TRUE(std::isfinite(x));
    EXPECT_NEAR(p.loss(q, 0), 0, 1e-6);
  }
}

TEST(SampleWindows, AreSpreadOverTheText) {
  std::vector<int32_t> text(1000);
  for (size_t i = 0; i < text.size(); i++) text[i] = static_cast<int32_t>(i);
  EXPECT_EQ(sample_windows(text, 1000, 64), text);
  const std::vector<int32_t> some = sample_windows(text, 256, 64);
  ASSERT_EQ(some.size(), 256u);
  for (size_t w = 0; w < 4; w++) {
    EXPECT_EQ(some[w * 64] % 64, 0);
    EXPECT_EQ(some[w * 64 + 63], some[w * 64] + 63);
  }
  EXPECT_EQ(some[0], 0);
  EXPECT_GT(some[192], 700);
  EXPECT_EQ(sample_windows(text, 10, 64).size(), 10u);  // less than a window
}

}  // namespace
}  // namespace hob
