// A budget that changes while the cache works: bytes stay right, memory really goes back.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>
#include <set>

#include "experts/slot_pool.h"
#include "packed_model_util.h"

namespace hob {
namespace {

const std::vector<LayerShape> kUniform = {
    {6, DType::kQ8_0, 32, 64}, {0, DType::kF32, 0, 0}, {6, DType::kQ8_0, 32, 64}};
const std::vector<LayerShape> kMixed = {
    {4, DType::kQ8_0, 32, 64}, {4, DType::kF32, 32, 64}, {4, DType::kF32, 64, 80}};

// Pages that the system holds, whatever the pool believes.
uint64_t physical_bytes(std::byte* begin, uint64_t n_bytes) {
  std::vector<unsigned char> present(n_bytes / 4096);
  HOB_CHECK(mincore(begin, n_bytes, present.data()) == 0);
  return 4096 * static_cast<uint64_t>(std::count_if(present.begin(), present.end(),
                                                    [](unsigned char p) { return p & 1; }));
}

// A pool beside a model of what it holds.
struct PoolCheck {
  PoolCheck(int n_slots, uint64_t slot, uint64_t budget, bool is_uniform)
      : slot_bytes(slot), uniform(is_uniform), pool(n_slots, slot, budget, is_uniform) {}

  struct Held {
    int slot;
    uint64_t n_bytes;
    unsigned char value;
  };
  const uint64_t slot_bytes;
  const bool uniform;
  SlotPool pool;
  std::vector<Held> held;
  unsigned char next = 1;
  int n_moved = 0;

  bool add(uint64_t n_bytes) {
    const int slot = pool.take(n_bytes);
    if (slot < 0) return false;
    for (const Held& h : held) HOB_CHECK(h.slot != slot);
    std::memset(pool.data(slot), next, n_bytes);
    held.push_back({slot, n_bytes, next++});
    return true;
  }
  void drop(size_t i) {
    pool.give(held[i].slot);
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
  }
  void resize(uint64_t budget) {
    pool.set_budget(budget, [&](int from, int to) {
      const auto is = [](int slot) { return [slot](const Held& h) { return h.slot == slot; }; };
      HOB_CHECK(std::none_of(held.begin(), held.end(), is(to)));
      std::find_if(held.begin(), held.end(), is(from))->slot = to;
      n_moved++;
    });
  }
  void expect_right(uint64_t budget) {
    uint64_t sum = 0;
    for (const Held& h : held) {
      sum += h.n_bytes;
      for (uint64_t i = 0; i < h.n_bytes; i += 512)
        ASSERT_EQ(static_cast<unsigned char>(pool.data(h.slot)[i]), h.value);
    }
    ASSERT_EQ(pool.held_bytes(), sum);
    ASSERT_LE(pool.touched_bytes(), budget);
    ASSERT_LE(physical_bytes(pool.data(0), static_cast<uint64_t>(pool.n_slots()) * slot_bytes),
              budget);
  }
};

TEST(SlotPool, PhysicalMemoryFollowsTheBudgetWhateverHappens) {
  constexpr uint64_t kSlot = 6 * 4096;
  constexpr int kSlots = 12;
  for (const bool uniform : {true, false}) {
    std::mt19937 rng(3);
    const uint64_t full = kSlots * kSlot;
    uint64_t budget = full;
    PoolCheck check(kSlots, kSlot, full, uniform);
    int n_shrinks = 0;
    for (int i = 0; i < 4000; i++) {
      const uint64_t n_bytes = uniform ? kSlot : (1 + rng() % 6) * 4096;
      if (rng() % 20 == 0) {
        const uint64_t wanted = kSlot + rng() % (full - kSlot + 1);
        while (check.pool.held_bytes() > wanted) check.drop(rng() % check.held.size());
        check.resize(wanted);
        n_shrinks += wanted < budget;
        budget = wanted;
      } else if (rng() % 3 == 0 && !check.held.empty()) {
        check.drop(rng() % check.held.size());
      } else {
        while (!check.add(n_bytes)) {
          ASSERT_FALSE(check.held.empty()) << "an empty pool has room for every expert";
          check.drop(rng() % check.held.size());
        }
      }
      ASSERT_NO_FATAL_FAILURE(check.expect_right(budget)) << uniform << " step " << i;
    }
    EXPECT_GT(n_shrinks, 50);
    EXPECT_EQ(check.n_moved > 0, uniform);
  }
}

// Large slots in huge pages, as real models have them: after shrinking, no page beyond the budget
// is left.
TEST(SlotPool, HugePagesGoBackWhole) {
  constexpr uint64_t kSlot = 900 * 4096, kHuge = 2 << 20;  // slots and huge pages never align
  constexpr int kSlots = 12;
  PoolCheck check(kSlots, kSlot, kSlots * kSlot, /*is_uniform=*/true);
  for (int i = 0; i < kSlots; i++) ASSERT_TRUE(check.add(kSlot));
  for (const size_t i : {10, 8, 5, 3, 2, 0}) check.drop(i);
  check.resize(6 * kSlot);
  check.expect_right(6 * kSlot);
  for (const PoolCheck::Held& h : check.held) EXPECT_LT(h.slot, 6);
  EXPECT_FALSE(check.add(kSlot));
  check.drop(2);
  EXPECT_TRUE(check.add(kSlot));
  EXPECT_LE(physical_bytes(check.pool.data(0), kSlots * kSlot), 6 * kSlot + kHuge);
  check.resize(kSlots * kSlot);
  while (check.add(kSlot)) {
  }
  EXPECT_EQ(check.held.size(), static_cast<size_t>(kSlots));
  check.expect_right(kSlots * kSlot);
}

void demand_all(ExpertCache& cache, const TestModel& model) {
  cache.begin_step();
  for (int layer = 0; layer < static_cast<int>(model.geometry.layers.size()); layer++) {
    const std::vector<ExpertKey> keys = model.keys(layer);
    ExpertDemand demand = cache.demand(keys);
    EXPECT_EQ(take_all(demand, model).size(), keys.size());
    EXPECT_LE(cache.used_bytes(), cache.budget_bytes());
  }
}

TEST(ExpertBudget, ResidentShrinksReadsAgainAndFillsUpAgain) {
  for (const auto& shapes : {kUniform, kMixed}) {
    TestModel model(shapes);
    const uint64_t total = model.total_bytes();
    ExpertCache cache(model.geometry, model.backend, model.options(total, "ewma-layer"));
    cache.preload(nullptr);
    demand_all(cache, model);
    EXPECT_TRUE(cache.resident());
    cache.reset_stats();

    cache.set_budget(total / 2);
    EXPECT_FALSE(cache.resident());
    EXPECT_EQ(cache.budget_bytes(), total / 2);
    EXPECT_LE(cache.used_bytes(), total / 2);
    EXPECT_GT(cache.stats().evictions, 0u);
    for (int i = 0; i < 3; i++) demand_all(cache, model);
    EXPECT_GT(cache.stats().misses, 0u);

    cache.set_budget(0);
    EXPECT_EQ(cache.budget_bytes(), model.expert_bytes());
    EXPECT_LE(cache.used_bytes(), model.expert_bytes());
    demand_all(cache, model);

    cache.set_budget(UINT64_MAX);
    EXPECT_EQ(cache.budget_bytes(), total);
    EXPECT_TRUE(cache.resident());
    demand_all(cache, model);
    EXPECT_EQ(cache.used_bytes(), total);
    cache.reset_stats();
    demand_all(cache, model);
    EXPECT_EQ(cache.stats().misses, 0u);
  }
}

// What stays is what the policy would have kept: the experts in use, although everything was
// resident and no eviction was in sight when they were used.
TEST(ExpertBudget, TheExpertsInUseStay) {
  TestModel model({{8, DType::kQ8_0, 32, 64}});
  for (const char* policy : {"lru", "ewma", "ewma-layer", "lfu"}) {
    ExpertCache cache(model.geometry, model.backend, model.options(model.total_bytes(), policy));
    cache.preload(nullptr);
    const std::vector<ExpertKey> used = {{0, 2}, {0, 5}, {0, 6}};
    for (int i = 0; i < 3; i++) {
      cache.begin_step();
      ExpertDemand demand = cache.demand(used);
      take_all(demand, model);
    }
    cache.set_budget(3 * model.expert_bytes());
    cache.reset_stats();
    ExpertDemand demand = cache.demand(used);
    take_all(demand, model);
    EXPECT_EQ(cache.stats().hits, 3u) << policy;
  }
}

TEST(ExpertBudget, GuessesAndGivenUpReadsEndFirst) {
  TestModel model(kUniform);
  auto reader = std::make_shared<ReaderScript>();
  ExpertCacheOptions options = model.options(8 * model.expert_bytes());
  options.io_depth = 2;
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  reader->hold = true;
  {
    ExpertDemand given_up = cache.demand(model.keys(0));
    while (reader->n_reads < 2) std::this_thread::yield();
  }
  std::vector<ExpertWant> guess;
  for (const ExpertKey key : model.keys(2)) guess.push_back({key, Want::kHigh});
  cache.prefetch(guess);
  reader->release();
  cache.set_budget(model.expert_bytes());
  EXPECT_LE(cache.used_bytes(), model.expert_bytes());
  demand_all(cache, model);
}

TEST(ExpertBudget, BothPrecisionsKeepTheirShareAndOneExpert) {
  PackedModel model({{9, DType::kQ8_0, 32, 64}, {9, DType::kQ8_0, 32, 64}});
  ExpertCacheOptions options = model.options(10 * model.expert_bytes() + 4 * model.low_bytes());
  options.low_bytes = 4 * model.low_bytes();
  options.strict = true;
  ExpertCache cache(model.geometry, model.backend, options);
  EXPECT_EQ(cache.least_budget_bytes(), model.expert_bytes() + model.low_bytes());
  std::vector<ExpertWant> wants;
  for (const ExpertKey key : model.keys(0))
    wants.push_back({key, key.expert % 2 ? Want::kLow : Want::kHigh});
  std::mt19937 rng(11);
  for (int i = 0; i < 40; i++) {
    cache.begin_step();
    const Served served = serve(cache, wants, model);
    EXPECT_EQ(served.precision.size(), wants.size());
    for (const ExpertWant& w : wants)
      EXPECT_EQ(served.precision.at(w.key.expert),
                w.want == Want::kLow ? Precision::kLow : Precision::kHigh);
    cache.set_budget(rng() % (options.budget_bytes + 1));
    EXPECT_LE(cache.used_bytes(), cache.budget_bytes());
  }
}

TEST(ExpertBudget, ModelWithoutExpertsHasNoneToGive) {
  TestModel model({{0, DType::kF32, 0, 0}});
  ExpertCache cache(model.geometry, model.backend, model.options(0));
  cache.set_budget(5);
  EXPECT_EQ(cache.budget_bytes(), 0u);
  EXPECT_TRUE(cache.resident());
}

// Demands, guesses, cancellations, budgets, on a disk that fails now and then.
TEST(ExpertBudget, AnyBudgetAtAnyTime) {
  for (unsigned seed = 0; seed < 16; seed++) {
    PackedModel model(
        seed % 2 ? std::vector<LayerShape>{{7, DType::kQ8_0, 32, 64}, {9, DType::kQ8_0, 32, 64}}
                 : std::vector<LayerShape>{{7, DType::kQ8_0, 32, 64}, {9, DType::kQ5_0, 64, 96}},
        /*with_high=*/seed % 4 < 2);
    std::mt19937 rng(seed);
    auto reader = std::make_shared<ReaderScript>();
    std::atomic<unsigned> n_reads{0};
    reader->fail = [&](const ReadOp&) -> std::exception_ptr {
      return seed % 3 == 0 && ++n_reads % 17 == 0 ? eio() : nullptr;
    };
    const bool low = seed % 5 != 0;
    ExpertCacheOptions options = model.options(
        model.total_bytes() + (low ? 3 * model.low_bytes() : 0), seed % 3 ? "ewma-layer" : "lru");
    options.low_bytes = low ? 3 * model.low_bytes() : 0;
    options.io_depth = 1 + static_cast<int>(rng() % 4);
    options.use_uring = rng() % 2;
    script(options, reader);
    ExpertCache cache(model.geometry, model.backend, options);
    if (seed % 3) cache.preload(nullptr);
    const auto some = [&](int layer) {
      std::vector<ExpertWant> wants;
      for (const ExpertKey key : model.keys(layer))
        if (rng() % 3) wants.push_back({key, static_cast<Want>(rng() % 3)});
      return wants;
    };
    for (int step = 0; step < 80; step++) {
      cache.begin_step();
      for (int layer : {0, 1}) {
        const auto wants = some(layer);
        if (rng() % 5 == 0) {
          ExpertDemand given_up = cache.demand(wants);
          if (rng() % 2) given_up.next();
          continue;
        }
        if (rng() % 2) cache.prefetch(some(1));
        const Served s = serve(cache, wants, model);
        ASSERT_EQ(s.precision.size() + s.error.size() + s.skipped.size(), wants.size());
        ASSERT_LE(cache.used_bytes(), cache.budget_bytes());
      }
      if (rng() % 3 == 0) {
        cache.set_budget(rng() % (options.budget_bytes + options.budget_bytes / 4));
        ASSERT_LE(cache.used_bytes(), cache.budget_bytes());
        ASSERT_GE(cache.budget_bytes(), cache.least_budget_bytes());
      }
    }
  }
}

}  // namespace
}  // namespace hob
