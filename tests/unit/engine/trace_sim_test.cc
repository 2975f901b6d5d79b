#include "engine/trace_sim.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/trace_fit.h"
#include "engine/trace_generator.h"
#include "experts/policy_table.h"

namespace hob {
namespace {

SimShape one_layer(int n_experts, uint64_t bytes = 10, double low_ratio = 0.5) {
  return {.n_layers = 1, .n_experts = n_experts, .expert_bytes = {bytes}, .low_ratio = low_ratio};
}

CacheSim lru_cache(const SimShape& shape, const SimBudget& budget) {
  return {shape, budget, make_policy("lru", shape.policy_shape(budget.high_bytes))};
}

SimCounts ask(CacheSim& cache, int64_t step, std::vector<SimUse> uses) {
  return cache.demand(0, uses, step);
}

// --- the cache ---

TEST(CacheSim, BytesAreTheBudget) {
  const SimShape shape{.n_layers = 2, .n_experts = 4, .expert_bytes = {10, 30}, .low_ratio = 0.5};
  CacheSim cache(shape, {.high_bytes = 45, .low_bytes = 0},
                 make_policy("lru", shape.policy_shape(45)));
  const std::vector<SimUse> two = {{.expert = 0}, {.expert = 1}};
  EXPECT_EQ(cache.demand(0, two, 0).bytes, 20u);
  EXPECT_EQ(cache.used_bytes(Precision::kHigh), 20u);
  const std::vector<SimUse> one = {{.expert = 0}};
  EXPECT_EQ(cache.demand(1, one, 0).bytes, 30u);  // evicts (0, 0)
  EXPECT_EQ(cache.used_bytes(Precision::kHigh), 40u);
  EXPECT_FALSE(cache.cached(0, 0, Precision::kHigh));
  EXPECT_TRUE(cache.cached(0, 1, Precision::kHigh));
  EXPECT_EQ(cache.demand(0, two, 1).hits_high, 1);
}

// The experts of a demand are safe from each other until nothing else is left.
TEST(CacheSim, ADemandLargerThanTheCacheComesInWaves) {
  CacheSim cache = lru_cache(one_layer(8), {.high_bytes = 30, .low_bytes = 0});
  std::vector<SimUse> all(8);
  for (int i = 0; i < 8; i++) all[static_cast<size_t>(i)].expert = i;
  EXPECT_EQ(ask(cache, 0, all).loads_high, 8);
  EXPECT_EQ(cache.used_bytes(Precision::kHigh), 30u);
  EXPECT_EQ(ask(cache, 1, {{.expert = 7}}).hits_high, 1);
}

TEST(CacheSim, WhatDoesNotFitIsReadAndDropped) {
  CacheSim cache = lru_cache(one_layer(2), {.high_bytes = 9, .low_bytes = 0});
  EXPECT_EQ(ask(cache, 0, {{.expert = 0}}).bytes, 10u);
  EXPECT_EQ(ask(cache, 1, {{.expert = 0}}).bytes, 10u);
  EXPECT_EQ(cache.used_bytes(Precision::kHigh), 0u);
}

// Ref: hobbit.md §1.3, reference code, case by case.
TEST(CacheSim, PrecisionRules) {
  const SimUse high{.expert = 0, .want = Want::kHigh}, low{.expert = 0, .want = Want::kLow},
      skip{.expert = 0, .want = Want::kSkip};
  const auto fresh = [] { return lru_cache(one_layer(4), {.high_bytes = 100, .low_bytes = 100}); };
  CacheSim empty = fresh();
  EXPECT_EQ(ask(empty, 0, {skip}).skips, 1);
  EXPECT_EQ(ask(empty, 1, {low}).loads_low, 1);  // 5 bytes
  EXPECT_EQ(ask(empty, 2, {low}).hits_low, 1);
  EXPECT_EQ(ask(empty, 3, {skip}).hits_low, 1);    // there anyway
  EXPECT_EQ(ask(empty, 4, {high}).loads_high, 1);  // a low copy does not serve high
  for (const SimUse& u : {high, low, skip}) EXPECT_EQ(ask(empty, 5, {u}).hits_high, 1);
  EXPECT_EQ(empty.used_bytes(Precision::kLow), 5u);
  EXPECT_EQ(empty.used_bytes(Precision::kHigh), 10u);
}

TEST(CacheSim, WithoutALowPoolLowCopiesPassThrough) {
  CacheSim cache = lru_cache(one_layer(4), {.high_bytes = 100, .low_bytes = 0});
  for (int step = 0; step < 3; step++) {
    const SimCounts n = ask(cache, step, {{.expert = 1, .want = Want::kLow}});
    EXPECT_EQ(n.loads_low, 1);
    EXPECT_EQ(n.bytes, 5u);
  }
  EXPECT_EQ(cache.used_bytes(Precision::kLow), 0u);
}

// --- the replay ---

RouteTrace tiny_trace() {
  RouteTrace t;
  t.model = "tiny";
  t.n_layers = 1;
  t.n_experts = 4;
  t.top_k = 3;
  t.n_prompt_tok = 2;
  t.n_decode_tok = 1;
  t.expert_bytes = {100};
  t.choices = {{0, .6f}, {1, .3f}, {2, .1f},   // scores 0, .6, .9
               {2, .5f}, {1, .3f}, {3, .2f},   // scores 0, .5, .8
               {3, .2f}, {1, .4f}, {0, .4f}};  // scores .8, 0, .4
  return t;
}

TEST(TraceSim, ABatchWantsTheMaximumOfItsRows) {
  ReplayOptions o;
  o.mode = PrecisionMode::kMixedSkip;
  o.thresholds = Thresholds{.5f, .8f};
  const Replay r = make_replay({tiny_trace()}, o);
  ASSERT_EQ(r.demands.size(), 2u);
  ASSERT_EQ(r.demands[0].n, 4u);
  const auto use = [&](size_t i) { return r.uses[i]; };
  EXPECT_EQ(use(0).want, Want::kHigh);
  EXPECT_EQ(use(1).expert, 1);
  EXPECT_EQ(use(1).want, Want::kHigh);  // low for the first row, high for the second
  EXPECT_EQ(use(1).n_rows, 2);
  EXPECT_NEAR(use(1).mass, .6, 1e-6);
  EXPECT_EQ(use(2).want, Want::kHigh);  // skipped by the first row, rank 0 of the second
  EXPECT_EQ(use(3).want, Want::kLow);
  // The decode token: 3 low, 1 rank 0, 0 high.
  EXPECT_EQ(r.uses[r.demands[1].first].want, Want::kLow);
  EXPECT_EQ(r.uses[r.demands[1].first + 1].want, Want::kHigh);
  EXPECT_EQ(r.uses[r.demands[1].first + 2].want, Want::kHigh);
  EXPECT_TRUE(r.demands[1].counted);
  EXPECT_EQ(r.bytes_per_tok, 300u);
}

TEST(TraceSim, Warmups) {
  ReplayOptions o;
  o.warmup = Warmup::kTokens;
  EXPECT_EQ(make_replay({tiny_trace()}, o).demands.size(), 3u);
  o.warmup = Warmup::kNone;
  const Replay cold = make_replay({tiny_trace()}, o);
  ASSERT_EQ(cold.demands.size(), 1u);
  EXPECT_TRUE(cold.demands[0].starts_sequence);
  const SimJob job{.policy = "lru", .budget = {.high_bytes = 400, .low_bytes = 0}, .disk = {}};
  EXPECT_EQ(simulate(cold, job).hits(), 0);
  o.warmup = Warmup::kChunk;
  EXPECT_EQ(simulate(make_replay({tiny_trace()}, o), job).hits(), 3);
}

TEST(TraceSim, StallIsLatencyPlusBytes) {
  ReplayOptions o;
  o.warmup = Warmup::kNone;
  const SimCounts n =
      simulate(make_replay({tiny_trace()}, o), {.policy = "lru",
                                                .budget = {.high_bytes = 400, .low_bytes = 0},
                                                .disk = {.bytes_per_s = 1000, .latency_s = 0.5}});
  EXPECT_DOUBLE_EQ(n.stall_s, 0.5 + 300.0 / 1000);
}

TEST(TraceSim, NeedsSizes) {
  RouteTrace t = tiny_trace();
  t.expert_bytes.clear();
  EXPECT_THROW(make_replay({t}, {}), Error);
  EXPECT_EQ(make_replay({t}, {.thresholds = {}, .expert_bytes = 7}).shape.total_bytes(), 28u);
}

// --- on the routing of a real model, cut ---

class RealTrace : public testing::Test {
 protected:
  static const std::vector<RouteTrace>& turns() {
    static const std::vector<RouteTrace> kTurns =
        read_route_traces(HOB_TEST_DATA "/trace/qwen3-30b-cut.csv");
    return kTurns;
  }
  static SimBudget share(const Replay& r, double x) {
    return {.high_bytes = static_cast<uint64_t>(x * static_cast<double>(r.shape.total_bytes())),
            .low_bytes = 0};
  }
  static SimCounts run(const Replay& r, std::string policy, const SimBudget& budget) {
    return simulate(r, {.policy = std::move(policy), .budget = budget, .disk = {}});
  }
};

TEST_F(RealTrace, EverythingIsCounted) {
  for (const PrecisionMode mode :
       {PrecisionMode::kExact, PrecisionMode::kMixed, PrecisionMode::kMixedSkip})
    for (const uint64_t low_percent : {0, 30})
      for (const PolicyRow& row : policy_table()) {
        ReplayOptions o;
        o.mode = mode;
        o.expert_bytes = 1000;
        o.low_ratio = 0.25;
        const Replay r = make_replay(turns(), o);
        const uint64_t all = share(r, 0.1).high_bytes, low = all * low_percent / 100;
        const SimCounts n =
            run(r, std::string(row.name), {.high_bytes = all - low, .low_bytes = low});
        const int64_t choices = r.n_decode_tok * 48 * 6;
        EXPECT_EQ(n.uses(), choices);
        EXPECT_EQ(n.rows_high + n.rows_low + n.rows_skipped, choices);
        EXPECT_NEAR(n.mass_high + n.mass_low + n.mass_skipped, r.n_decode_tok * 48.0, 1e-2);
        EXPECT_EQ(n.bytes, static_cast<uint64_t>(1000 * n.loads_high + 250 * n.loads_low));
        EXPECT_EQ(n.skips > 0, mode == PrecisionMode::kMixedSkip);
        EXPECT_EQ(n.loads_low > 0, mode != PrecisionMode::kExact);
      }
}

TEST_F(RealTrace, NobodyBeatsBelady) {
  for (const Warmup warmup : {Warmup::kNone, Warmup::kChunk, Warmup::kTokens}) {
    ReplayOptions o;
    o.expert_bytes = 1000;
    o.warmup = warmup;
    const Replay r = make_replay(turns(), o);
    for (const double x : {0.01, 0.03, 0.1, 0.2, 0.4}) {
      const int64_t best = run(r, "belady", share(r, x)).hits();
      for (const PolicyRow& row : policy_table())
        EXPECT_GE(best, run(r, std::string(row.name), share(r, x)).hits()) << row.name << " " << x;
    }
  }
}

// Less than the experts of one token fits (two of six per layer): lru hits nothing, the default
// does.
TEST_F(RealTrace, NoCliffBelowTheExpertsOfOneToken) {
  const Replay r = make_replay(turns(), {});
  const SimBudget budget = share(r, 0.02);
  ASSERT_LT(budget.high_bytes, r.bytes_per_tok);
  EXPECT_EQ(run(r, "lru", budget).hits(), 0);
  const double best = run(r, "belady", budget).hit_rate();
  EXPECT_GT(run(r, "ewma-layer", budget).hit_rate(), 0.5 * best);
}

// The whole traces: bench/check_trace_sim.py.
TEST_F(RealTrace, TheDefaultPolicyIsBetterThanLru) {
  const Replay r = make_replay(turns(), {});
  for (const double x : {0.1, 0.2, 0.3}) {
    const auto lru = static_cast<double>(run(r, "lru", share(r, x)).bytes);
    const auto best = static_cast<double>(run(r, "belady", share(r, x)).bytes);
    const auto mine = static_cast<double>(run(r, "ewma-layer", share(r, x)).bytes);
    EXPECT_LE(mine, 1.02 * lru) << x;
    if (x < 0.15) {
      EXPECT_GE((lru - mine) / (lru - best), 0.15) << x;
    }
  }
}

TEST_F(RealTrace, QuantilesAreOfTheScores) {
  ReplayOptions o;
  o.mode = PrecisionMode::kMixedSkip;
  const Replay r = make_replay(turns(), o);
  // Nothing fits: what is served is what is wanted. Of the five ranks that the percentiles are
  // over, 30 % low and 3 % skipped.
  const SimCounts n = run(r, "lru", {.high_bytes = 1, .low_bytes = 0});
  const auto ranks = static_cast<double>(r.n_decode_tok) * 48 * 5;
  EXPECT_NEAR(static_cast<double>(n.rows_low) / ranks, 0.30, 0.005);
  EXPECT_NEAR(static_cast<double>(n.rows_skipped) / ranks, 0.03, 0.005);
}

TEST_F(RealTrace, MixedPrecisionReadsLess) {
  ReplayOptions o;
  uint64_t last = UINT64_MAX;
  for (const PrecisionMode mode :
       {PrecisionMode::kExact, PrecisionMode::kMixed, PrecisionMode::kMixedSkip}) {
    o.mode = mode;
    const Replay r = make_replay(turns(), o);
    const uint64_t bytes = run(r, "ewma-layer", share(r, 0.1)).bytes;
    EXPECT_LT(bytes, last);
    last = bytes;
  }
}

TEST_F(RealTrace, FitFindsTheBestOfItsGrid) {
  ReplayOptions o;
  o.mode = PrecisionMode::kMixedSkip;
  const Replay r = make_replay(turns(), o);
  const SimBudget budget = share(r, 0.1);
  const std::vector<FitRow> rows =
      fit_hobbit(std::vector<FitCase>{{r, {budget}}}, 2, /*progress=*/{});
  EXPECT_EQ(rows.size(), 10u);
  const double lru = run(r, "lru", budget).penalty(o.low_ratio);
  double least = 1e9;
  for (const FitRow& row : rows) {
    EXPECT_NEAR(row.weights[0] + row.weights[1] + row.weights[2] + row.weights[3], 1, 1e-12);
    const double penalty = run(r, row.policy(), budget).penalty(o.low_ratio) / lru;
    EXPECT_NEAR(row.penalty, penalty, 1e-12);
    least = std::min(least, penalty);
  }
  EXPECT_EQ(rows.front().penalty, least);
  EXPECT_GT(rows.back().penalty, least);
}

// A second sequence like the first: the activation policy has seen it.
TEST(TraceSim, PastSequencesHelpTheActivationPolicy) {
  TraceGeneratorOptions g;
  g.n_layers = 6;
  g.n_experts = 32;
  g.top_k = 4;
  g.n_decode_tok = 60;
  std::vector<RouteTrace> turns = generate_route_traces(g);
  const Replay once = make_replay(turns, {});
  turns.push_back(turns[0]);
  const Replay twice = make_replay(turns, {});
  const SimJob job{.policy = "activation",
                   .budget = {.high_bytes = once.shape.total_bytes() / 5, .low_bytes = 0},
                   .disk = {}};
  const SimCounts first = simulate(once, job), both = simulate(twice, job);
  EXPECT_GT(both.hits() - first.hits(), first.hits());
}

}  // namespace
}  // namespace hob
