#include "model/rope_cache.h"

#include <gtest/gtest.h>

#include <cmath>

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
  EXPECT_EQ(rope_magnitude(s), 1.0);
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
    EXPECT_NEAR(rope_magnitude(c.spec), c.magnitude, 1e-12);
    const std::vector<double> f = rope_frequencies(c.spec, {});
    for (const auto& [i, expected] : c.frequencies) EXPECT_NEAR(f[i] / expected, 1.0, 1e-9) << i;
  }
}

TEST(RopeFrequencies, YarnAttentionFactorMultiplies) {
  RopeSpec s = yarn(1e4f, 16, 8.f, 512);
  s.attn_factor = 0.5f;
  EXPECT_NEAR(rope_magnitude(s), 1.2079441541679836 / 2, 1e-12);
  s.factor = 1.f;
  EXPECT_NEAR(rope_magnitude(s), 0.5, 1e-12);
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
