#include "experts/importance.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace hob {
namespace {

TEST(Importance, ScoresAreTheWeightAbove) {
  const std::vector<float> weights = {.2f, .5f, .3f};
  std::vector<float> scores(3);
  unimportance(weights, scores);
  EXPECT_NEAR(scores[0], .8, 1e-6);
  EXPECT_EQ(scores[1], 0.f);
  EXPECT_NEAR(scores[2], .5, 1e-6);
}

// Weights of models without renormalisation sum to less than 1; the score uses a normalised copy.
TEST(Importance, IndependentOfScale) {
  const std::vector<float> weights = {.02f, .05f, .03f};
  std::vector<float> scores(3);
  unimportance(weights, scores);
  EXPECT_NEAR(scores[0], .8, 1e-6);
}

TEST(Importance, TiesAndZeros) {
  std::vector<float> scores(2);
  unimportance(std::vector<float>{.5f, .5f}, scores);
  EXPECT_EQ(scores[0], 0.f);
  EXPECT_EQ(scores[1], .5f);
  unimportance(std::vector<float>{0.f, 0.f}, scores);
  EXPECT_EQ(scores[1], 0.f);
}

TEST(Importance, Wanted) {
  const Thresholds t{.6f, .9f};
  EXPECT_EQ(wanted(.6f, false, PrecisionMode::kMixedSkip, t), Want::kHigh);
  EXPECT_EQ(wanted(.61f, false, PrecisionMode::kMixedSkip, t), Want::kLow);
  EXPECT_EQ(wanted(.91f, false, PrecisionMode::kMixedSkip, t), Want::kSkip);
  EXPECT_EQ(wanted(.91f, false, PrecisionMode::kMixed, t), Want::kLow);
  EXPECT_EQ(wanted(.91f, false, PrecisionMode::kExact, t), Want::kHigh);
  EXPECT_EQ(wanted(0.f, true, PrecisionMode::kMixedSkip, {-1.f, -1.f}), Want::kHigh);
}

TEST(Importance, Quantiles) {
  std::vector<float> scores;
  for (int i = 100; i >= 0; i--) scores.push_back(static_cast<float>(i) / 100);
  const Thresholds t = quantile_thresholds(scores, .67, .97);
  EXPECT_FLOAT_EQ(t.t1, .67f);
  EXPECT_FLOAT_EQ(t.t2, .97f);
  std::vector<float> none;
  EXPECT_EQ(quantile_thresholds(none, .67, .97).t1, Thresholds{}.t1);
}

}  // namespace
}  // namespace hob
