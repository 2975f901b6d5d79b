#include "model/layers/precision_rule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace hob {
namespace {

std::vector<Want> decide(const PrecisionOptions& options, const std::vector<float>& weights,
                         int k) {
  PrecisionRule rule(options, static_cast<int>(weights.size()));
  std::vector<Want> wants(weights.size());
  rule.decide(weights.data(), static_cast<int>(weights.size()) / k, k, wants.data());
  return wants;
}

PrecisionOptions fixed(PrecisionMode mode, float t1, float t2) {
  PrecisionOptions o;
  o.mode = mode;
  o.t1 = t1;
  o.t2 = t2;
  return o;
}

constexpr Want H = Want::kHigh, L = Want::kLow, S = Want::kSkip;

// The paper's reading of Mixtral: T1 = .6, T2 = .9, k = 2 is a rule on the first weight.
TEST(PrecisionRule, TwoExpertsAsInThePaper) {
  const auto o = fixed(PrecisionMode::kMixedSkip, 0.6f, 0.9f);
  EXPECT_EQ(decide(o, {.55f, .45f}, 2), (std::vector<Want>{H, H}));
  EXPECT_EQ(decide(o, {.75f, .25f}, 2), (std::vector<Want>{H, L}));
  EXPECT_EQ(decide(o, {.95f, .05f}, 2), (std::vector<Want>{H, S}));
}

TEST(PrecisionRule, WeightsNeedNeitherOrderNorSumOfOne) {
  const auto o = fixed(PrecisionMode::kMixedSkip, 0.5f, 0.85f);
  // Normalised and ordered: .5 .3 .1 .1 -> s = 0, .5, .8, .9
  EXPECT_EQ(decide(o, {.1f, .5f, .1f, .3f}, 4), (std::vector<Want>{L, H, S, H}));
  EXPECT_EQ(decide(o, {.05f, .25f, .05f, .15f}, 4), (std::vector<Want>{L, H, S, H}));
}

TEST(PrecisionRule, MixedNeverSkips) {
  EXPECT_EQ(decide(fixed(PrecisionMode::kMixed, 0.5f, 0.85f), {.1f, .5f, .1f, .3f}, 4),
            (std::vector<Want>{L, H, L, H}));
}

TEST(PrecisionRule, TheFirstRankIsAlwaysHigh) {
  for (float t : {0.f, 0.3f}) {
    const auto wants = decide(fixed(PrecisionMode::kMixedSkip, t, t), {.2f, .5f, .3f}, 3);
    EXPECT_EQ(wants[1], H);
    EXPECT_EQ(wants[0], S);
  }
}

TEST(PrecisionRule, RowsThatFailedAreHigh) {
  const float nan = std::nanf("");
  EXPECT_EQ(decide(fixed(PrecisionMode::kMixedSkip, .1f, .2f), {nan, nan, 0.f, 0.f}, 2),
            (std::vector<Want>{H, H, H, H}));
}

// 67 % of the scores of ranks >= 1 high, 30 % low, 3 % skipped, whatever the model's router is
// like.
TEST(PrecisionRule, QuantilesHoldOnAnyRouter) {
  for (float sharpness : {0.3f, 1.f, 3.f}) {
    PrecisionOptions o;
    o.mode = PrecisionMode::kMixedSkip;
    constexpr int kRows = 4000, kK = 8;
    PrecisionRule rule(o, kRows * kK);
    std::mt19937 rng(4);
    std::normal_distribution<float> normal;
    std::vector<float> weights;
    for (int i = 0; i < kRows * kK; i++) weights.push_back(std::exp(sharpness * normal(rng)));
    std::vector<Want> wants(weights.size());
    rule.decide(weights.data(), kRows, kK, wants.data());
    double n_high = 0, n_low = 0, n_skip = 0;
    for (Want w : wants) (w == H ? n_high : w == L ? n_low : n_skip)++;
    const double n = kRows * (kK - 1);
    EXPECT_NEAR((n_high - kRows) / n, 0.67, 0.01) << sharpness;
    EXPECT_NEAR(n_low / n, 0.30, 0.01) << sharpness;
    EXPECT_NEAR(n_skip / n, 0.03, 0.01) << sharpness;
    EXPECT_LT(rule.t1(), rule.t2());
  }
}

TEST(PrecisionRule, AGuessLearnsNothing) {
  PrecisionOptions o;
  o.mode = PrecisionMode::kMixed;
  PrecisionRule rule(o, 16);
  const std::vector<float> weights{.6f, .4f};
  std::vector<Want> wants(2);
  rule.guess(weights.data(), 1, 2, wants.data());
  EXPECT_EQ(rule.t1(), 1.f);
  EXPECT_EQ(wants[1], H);
}

}  // namespace
}  // namespace hob
