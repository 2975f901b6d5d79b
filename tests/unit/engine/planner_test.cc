#include "engine/planner.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace hob {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// The shape of OLMoE in Q4_K: 16 layers of 64 experts of 3.4 MiB.
PlanInput olmoe() {
  PlanInput in;
  in.dense_bytes = 300 * kMiB;
  in.experts_bytes = 3456 * kMiB;
  in.smallest_cache_bytes = 3456 * kMiB / 1024;
  in.kv_bytes = 512 * kMiB;
  in.n_ctx = 4096;
  in.staging_bytes = 32 * kMiB;
  in.base_process_bytes = 24 * kMiB;
  in.scratch_bytes = [](int rows) { return static_cast<uint64_t>(rows) * 200000 + kMiB; };
  return in;
}

uint64_t sum(const Plan& p) {
  return p.weights_bytes + p.kv_bytes + p.scratch_bytes + p.expert_cache_bytes + p.staging_bytes +
         p.base_process_bytes + p.page_table_bytes;
}

std::string plan_error(const PlanInput& in) {
  try {
    make_plan(in);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kResourceExhausted);
    return e.what();
  }
  return "";
}

TEST(Planner, EverythingFits) {
  PlanInput in = olmoe();
  in.memory_bytes = 8192 * kMiB;
  const Plan plan = make_plan(in);
  EXPECT_TRUE(plan.resident);
  EXPECT_EQ(plan.expert_cache_bytes, in.experts_bytes);
  EXPECT_EQ(plan.chunk, kDefaultChunk);
  EXPECT_EQ(plan.peak_bytes, sum(plan));
  EXPECT_LT(plan.peak_bytes, 4600 * kMiB);
}

TEST(Planner, NoLimitMeansResident) {
  const Plan plan = make_plan(olmoe());
  EXPECT_TRUE(plan.resident);
  EXPECT_EQ(plan.budget_bytes, 0u);
}

TEST(Planner, SmallBudgetGoesToExperts) {
  PlanInput in = olmoe();
  in.memory_bytes = 2048 * kMiB;
  const Plan plan = make_plan(in);
  EXPECT_FALSE(plan.resident);
  EXPECT_LE(plan.peak_bytes, 2048 * kMiB);
  EXPECT_GE(plan.peak_bytes, 2047 * kMiB);  // nothing is left unused
  EXPECT_LE(plan.scratch_bytes, (plan.scratch_bytes + plan.expert_cache_bytes) / 7);
}

TEST(Planner, ChunkShrinksBeforeTheCacheDoes) {
  PlanInput in = olmoe();
  int last = kDefaultChunk;
  for (uint64_t mib : {8192, 2048, 1400, 1000, 920, 900, 885}) {
    in.memory_bytes = mib * kMiB;
    const Plan plan = make_plan(in);
    EXPECT_LE(plan.chunk, last) << mib;
    last = plan.chunk;
  }
  EXPECT_EQ(last, kSmallestChunk);
}

TEST(Planner, NamedSmallestBudgetWorksAndOneMiBLessDoesNot) {
  PlanInput in = olmoe();
  in.memory_bytes = 100 * kMiB;
  const std::string message = plan_error(in);
  EXPECT_NE(message.find("--ctx 2048 would save 256 MiB"), std::string::npos) << message;
  const size_t at = message.find('(');
  ASSERT_NE(at, std::string::npos) << message;
  const uint64_t smallest = std::stoull(message.substr(at + 1));
  in.memory_bytes = smallest;
  EXPECT_EQ(make_plan(in).smallest_bytes, smallest);
  in.memory_bytes = smallest - kMiB;
  EXPECT_NE(plan_error(in), "");
}

TEST(Planner, ExpertCacheOverridesTheShare) {
  PlanInput in = olmoe();
  in.expert_cache_bytes = 64 * kMiB;
  EXPECT_EQ(make_plan(in).expert_cache_bytes, 64 * kMiB);
  EXPECT_FALSE(make_plan(in).resident);
  in.memory_bytes = 1024 * kMiB;
  EXPECT_EQ(make_plan(in).expert_cache_bytes, 64 * kMiB);
  in.expert_cache_bytes = 4096 * kMiB;
  in.memory_bytes = std::nullopt;
  EXPECT_TRUE(make_plan(in).resident);
  in.memory_bytes = 1024 * kMiB;  // cannot hold what was asked for: an error, not a smaller cache
  EXPECT_NE(plan_error(in).find("--memory"), std::string::npos);
  in.expert_cache_bytes = 1;
  EXPECT_NE(plan_error(in).find("--expert-cache"), std::string::npos);
}

TEST(Planner, ChunkThatWasAskedForIsKept) {
  PlanInput in = olmoe();
  in.chunk = 1;
  in.memory_bytes = 2048 * kMiB;
  EXPECT_EQ(make_plan(in).chunk, 1);
  in.chunk = 4096;
  EXPECT_EQ(make_plan(in).chunk, 4096);
  in.memory_bytes = 1000 * kMiB;
  EXPECT_NE(plan_error(in), "");
}

TEST(Planner, DenseModelHasNoSlots) {
  PlanInput in = olmoe();
  in.experts_bytes = in.smallest_cache_bytes = in.staging_bytes = 0;
  in.memory_bytes = 2048 * kMiB;
  const Plan plan = make_plan(in);
  EXPECT_TRUE(plan.resident);
  EXPECT_EQ(plan.expert_cache_bytes, 0u);
  EXPECT_EQ(plan.chunk, kDefaultChunk);
}

// Any budget either gives a plan inside it or an error that names a larger one.
TEST(Planner, PropertyPlansStayInsideTheBudget) {
  std::mt19937_64 rng(1);
  for (int i = 0; i < 3000; i++) {
    PlanInput in = olmoe();
    in.memory_bytes = rng() % (5000 * kMiB);
    in.kv_bytes = rng() % (600 * kMiB);
    in.dense_bytes = rng() % (600 * kMiB);
    if (rng() % 4 == 0) in.expert_cache_bytes = in.smallest_cache_bytes + rng() % (2000 * kMiB);
    if (rng() % 4 == 0) in.chunk = 1 + static_cast<int>(rng() % 1000);
    in.min_rows = 1 + static_cast<int>(rng() % 64);
    const std::string message = plan_error(in);
    if (!message.empty()) {
      EXPECT_NE(message.find("at least"), std::string::npos);
      continue;
    }
    const Plan plan = make_plan(in);
    ASSERT_LE(plan.peak_bytes, *in.memory_bytes);
    ASSERT_EQ(plan.peak_bytes, sum(plan));
    ASSERT_GE(plan.chunk, in.min_rows);
    ASSERT_GE(plan.expert_cache_bytes, in.smallest_cache_bytes);
    if (!plan.resident && !in.expert_cache_bytes) {
      EXPECT_GE(plan.peak_bytes + 8192, *in.memory_bytes);
    }
  }
}

TEST(Planner, BaseProcessGrowsWithVocabularyAndThreads) {
  EXPECT_GT(base_process_bytes(100000, 2), base_process_bytes(0, 2) + 8 * kMiB);
  EXPECT_GT(base_process_bytes(0, 64), base_process_bytes(0, 1));
}

}  // namespace
}  // namespace hob
