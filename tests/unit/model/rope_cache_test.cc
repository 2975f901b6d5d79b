#include "model/rope_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hob {
namespace {

TEST(RopeFrequencies, PlainAndLinear) {
  RopeSpec s{.theta = 10000.f, .d_rot = 8};
  const std::vector<double> plain = rope_frequencies(s, {});
  ASSERT_EQ(plain.size(), 4u);
  EXPECT_DOUBLE_EQ(plain[0], 1.0);
  EXPECT_NEAR(plain[1], 0.1, 1e-15);
  EXPECT_NEAR(plain[3], 0.001, 1e-15);
  s.scaling = RopeScaling::kLinear;
  s.factor = 4.f;
  EXPECT_NEAR(rope_frequencies(s, {})[1], 0.025, 1e-15);
}

TEST(RopeFrequencies, DivisorsApplyBeforeScaling) {
  const RopeSpec s{.theta = 10000.f, .d_rot = 4};
  const float divisors[] = {2.f, 8.f};
  const std::vector<double> f = rope_frequencies(s, divisors);
  EXPECT_DOUBLE_EQ(f[0], 0.5);
  EXPECT_NEAR(f[1], 0.01 / 8, 1e-15);
}

// Expected values: a numpy transcription of transformers' _compute_yarn_parameters.
struct YarnCase {
  RopeSpec spec;
  double magnitude;
  std::vector<std::pair<size_t, double>> frequencies;
};

RopeSpec yarn(float theta, int d_rot, float factor, int original_ctx) {
  return {.theta = theta,
          .d_rot = d_rot,
          .scaling = RopeScaling::kYarn,
          .factor = factor,
          .original_ctx = original_ctx};
}

TEST(RopeFrequencies, YarnAgreesWithTransformers) {
  const YarnCase cases[] = {
      {yarn(1e6f, 128, 4.f, 32768),
       1.138629436111989,
       {{0, 1.0},
        {1, 0.8058421877614819},
        {3, 0.5232991146814947},
        {16, 0.03162277660168379},
        {21, 0.010746078283213174},
        {32, 0.0006029411764705882},
        {63, 3.102344401879299e-07}}},
      {yarn(1e4f, 16, 8.f, 512),
       1.2079441541679836,
       {{0, 1.0},
        {1, 0.24705294220065463},
        {2, 0.05625},
        {3, 0.010870329456828804},
        {4, 0.00125},
        {7, 3.952847075210474e-05}}},
  };
  for (const YarnCase& c : cases) {
    EXPECT_NEAR(yarn_magnitude(static_cast<double>(c.spec.factor), 1), c.magnitude, 1e-12);
    const std::vector<double> f = rope_frequencies(c.spec, {});
    for (const auto& [i, expected] : c.frequencies) EXPECT_NEAR(f[i] / expected, 1.0, 1e-9) << i;
  }
}

TEST(RopeFrequencies, YarnMagnitudeGrowsWithTheFactorOnly) {
  EXPECT_EQ(yarn_magnitude(1, 1), 1.0);
  EXPECT_EQ(yarn_magnitude(0.5, 1), 1.0);
  EXPECT_NEAR(yarn_magnitude(40, 0.707), 1 + 0.1 * 0.707 * std::log(40.0), 1e-15);
}

// gpt-oss: the ramp begins and ends between pairs. Expected: transformers with truncate = false.
TEST(RopeFrequencies, YarnRampNeedNotEndAtWholePairs) {
  RopeSpec s = yarn(150000.f, 64, 32.f, 4096);
  const std::vector<double> whole = rope_frequencies(s, {});
  s.yarn_whole_pairs = false;
  const std::vector<double> f = rope_frequencies(s, {});
  const auto pair_of = [](double turns) {
    return 64 * std::log(4096 / (turns * 2 * std::numbers::pi)) / (2 * std::log(150000.0));
  };
  const double low = pair_of(32), high = pair_of(1);
  for (size_t i = 0; i < f.size(); i++) {
    const double plain = std::pow(150000.0, -2.0 * static_cast<double>(i) / 64);
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    EXPECT_NEAR(f[i] / (plain / 32 * ramp + plain * (1 - ramp)), 1, 2e-6);  // theta in f32
  }
  EXPECT_NE(f, whole);
}

// Every position of a context longer than the original one turns by the long factors.
TEST(RopeCacheTest, LongRopeFollowsTheContext) {
  const RopeSpec s{.theta = 10000.f,
                   .d_rot = 4,
                   .scaling = RopeScaling::kLongRope,
                   .original_ctx = 8,
                   .magnitude = 1.5f,
                   .long_magnitude = 2.f};
  const RopeDivisors divisors{{1.f, 2.f}, {1.f, 10.f}};
  const RopeCache within(s, 8, divisors), beyond(s, 9, divisors);
  EXPECT_NEAR(within.table().cos[3], 1.5 * std::cos(0.01 / 2), 1e-6);
  EXPECT_NEAR(beyond.table().cos[3], 2 * std::cos(0.01 / 10), 1e-6);
  EXPECT_NEAR(beyond.table().sin[3], 2 * std::sin(0.01 / 10), 1e-6);
}

TEST(RopeCache, TableHoldsEveryPosition) {
  const RopeSpec s{.kind = RopeKind::kAdjacent, .theta = 10000.f, .d_rot = 8};
  const RopeCache cache(s, 300, {});
  const RopeTable t = cache.table();
  EXPECT_EQ(t.n_positions, 300);
  EXPECT_EQ(t.d_rot, 8);
  EXPECT_EQ(t.kind, RopeKind::kAdjacent);
  EXPECT_EQ(RopeCache::bytes(s, 300), 300u * 8 * 4);
  for (int p : {0, 1, 299})
    for (int i = 0; i < 4; i++) {
      const double angle = p * std::pow(10000.0, -2.0 * i / 8);
      EXPECT_FLOAT_EQ(t.cos[p * 4 + i], static_cast<float>(std::cos(angle)));
      EXPECT_FLOAT_EQ(t.sin[p * 4 + i], static_cast<float>(std::sin(angle)));
    }
}

}  // namespace
}  // namespace hob
