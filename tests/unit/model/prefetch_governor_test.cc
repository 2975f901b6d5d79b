#include "model/prefetch_governor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace hob {
namespace {

// Total time of n steps that take `off` or `on` seconds, with noise.
double run(PrefetchGovernor& governor, int n, double off, double on, double noise = 0) {
  std::mt19937 rng(1);
  std::normal_distribution<double> normal(1, noise);
  double total = 0;
  for (int i = 0; i < n; i++) {
    const double t = (governor.on() ? on : off) * std::max(0.1, normal(rng));
    governor.record(t);
    total += t;
  }
  return total;
}

TEST(PrefetchGovernor, OnAndOffDoAsTheySay) {
  PrefetchGovernor on(PrefetchMode::kOn), off(PrefetchMode::kOff);
  for (int i = 0; i < 50; i++) {
    EXPECT_TRUE(on.on());
    EXPECT_FALSE(off.on());
    on.record(2);
    off.record(1);
  }
  EXPECT_EQ(off.n_steps_on(), 0u);
}

// "never below 0.97 x of no prefetch"
TEST(PrefetchGovernor, ALosingPrefetchCostsLessThanThreePercent) {
  for (double loss : {1.02, 1.1, 1.3, 1.5}) {
    PrefetchGovernor governor(PrefetchMode::kAuto);
    EXPECT_LT(run(governor, 1000, 1, loss, 0.05), 1000 * 1.03) << loss;
    EXPECT_FALSE(governor.wins());
    EXPECT_NEAR(governor.gain(), 1 / loss, 0.06);
  }
}

TEST(PrefetchGovernor, AWinningPrefetchStaysOn) {
  PrefetchGovernor governor(PrefetchMode::kAuto);
  EXPECT_LT(run(governor, 2000, 1, 0.7, 0.05), 2000 * 0.74);
  EXPECT_TRUE(governor.wins());
}

TEST(PrefetchGovernor, FollowsAChange) {
  PrefetchGovernor governor(PrefetchMode::kAuto);
  run(governor, 1000, 1, 1.4);
  EXPECT_FALSE(governor.wins());
  run(governor, 2000, 1, 0.7);
  EXPECT_TRUE(governor.wins());
}

// Steps get faster as the cache fills; that must not be taken for a gain.
TEST(PrefetchGovernor, AWarmingCacheIsNoGain) {
  PrefetchGovernor governor(PrefetchMode::kAuto);
  for (int i = 0; i < 200; i++)
    governor.record((1 + 4 * std::exp(-i / 20.)) * (governor.on() ? 1.1 : 1));
  EXPECT_FALSE(governor.wins());
  EXPECT_NEAR(governor.gain(), 1 / 1.1, 0.08);
}

}  // namespace
}  // namespace hob
