#include "engine/draft_batching.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace hob {
namespace {

double wait(int n_ready, std::vector<double> expected, double fixed_s, double draft_s = 0,
            DraftBatching policy = DraftBatching::kCoalesce, double waited_s = 0) {
  return draft_wait_s({.policy = policy,
                       .n_ready = n_ready,
                       .n_answers = n_ready + static_cast<int>(expected.size()),
                       .waited_s = waited_s,
                       .fixed_s = fixed_s,
                       .draft_s = draft_s,
                       .expected_in_s = expected});
}

TEST(DraftBatching, WaitsForOneWhoSavesMoreThanTheOthersLose) {
  EXPECT_EQ(wait(1, {0.01}, 0.05), 0.01);
  EXPECT_EQ(wait(4, {0.01}, 0.05), 0);             // four times 10 ms against 40 ms
  EXPECT_EQ(wait(4, {0.01, 0.012}, 0.05), 0.012);  // against 76 ms
  EXPECT_EQ(wait(1, {0.01}, 0.05, 0.05), 0);       // arithmetic binds: together is no cheaper
  EXPECT_EQ(wait(1, {0.06}, 0.05), 0);             // comes after the step's end
  EXPECT_EQ(wait(0, {0.01}, 0.05), 0);
  EXPECT_EQ(wait(1, {}, 0.05), 0);
}

TEST(DraftBatching, NobodyWaitsLongerThanAStep) {
  EXPECT_EQ(wait(1, {0.01}, 0.05, 0, DraftBatching::kCoalesce, 0.045), 0);
}

TEST(DraftBatching, HalvesWaitForHalf) {
  EXPECT_EQ(wait(1, {0.01, 0.2, 0.3}, 0.001, 0, DraftBatching::kHalves), 0.01);
  EXPECT_EQ(wait(2, {0.2, 0.3}, 0.001, 0, DraftBatching::kHalves), 0);
  EXPECT_EQ(wait(1, {0.01}, 1, 0, DraftBatching::kGo), 0);
}

TEST(ThinkTime, ExpectsTheUsual) {
  ThinkTime t;
  t.offered(1);
  EXPECT_FALSE(t.expected_in_s(1));  // nothing has been decided
  t.decided(2);
  EXPECT_FALSE(t.expected_in_s(2));  // never seen
  t.offered(2.4);
  t.decided(3);
  EXPECT_NEAR(*t.expected_in_s(3.1), 0.3, 1e-9);
  EXPECT_NEAR(*t.expected_in_s(3.4), 0.001, 1e-9);  // a little late
  EXPECT_FALSE(t.expected_in_s(3.5));
  t.offered(3.8);
  t.decided(4);
  EXPECT_NEAR(*t.expected_in_s(4), 0.5, 1e-9);      // a quarter of the way to .8
  EXPECT_NEAR(*t.expected_in_s(4.6), 0.101, 1e-9);  // it is late by a tenth on average
  t.forget_decision();
  EXPECT_FALSE(t.expected_in_s(4));
}

TEST(StepCost, LearnsBothParts) {
  StepCost cost;
  EXPECT_EQ(cost.fixed_s(), 0);
  std::mt19937 rng(3);
  for (int i = 0; i < 500; i++) {
    const int n = 1 + static_cast<int>(rng() % 40);
    const double noise = 1 + 0.02 * (static_cast<double>(rng() % 100) / 50 - 1);
    cost.add(n, (0.02 + 0.0005 * n) * noise);
  }
  EXPECT_NEAR(cost.fixed_s(), 0.02, 0.002);
  EXPECT_NEAR(cost.row_s(), 0.0005, 0.0001);
}

TEST(StepCost, StepsOfOneSizeSayNothingOfRows) {
  StepCost cost;
  for (int i = 0; i < 100; i++) cost.add(8, 0.03);
  EXPECT_EQ(cost.row_s(), 0);
  EXPECT_NEAR(cost.fixed_s(), 0.03, 1e-9);
}

}  // namespace
}  // namespace hob
