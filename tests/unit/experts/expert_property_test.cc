// Random demands against a model of what a cache is.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <random>
#include <set>

#include "experts/expert_cache.h"
#include "experts_test_util.h"

namespace hob {
namespace {

using Rng = std::mt19937;

std::vector<ExpertKey> random_keys(Rng& rng, const TestModel& model, size_t n_most) {
  const int layer = static_cast<int>(rng() % model.geometry.layers.size());
  std::vector<ExpertKey> keys = model.keys(layer);
  std::shuffle(keys.begin(), keys.end(), rng);
  keys.resize(std::min(keys.size(), 1 + rng() % n_most));
  return keys;
}

// The textbook LRU. Demands no larger than the cache, taken completely: hits and contents must
// agree exactly.
TEST(ExpertProperty, LruAgreesWithTheTextbook) {
  TestModel model(
      {{8, DType::kQ8_0, 32, 32}, {8, DType::kQ8_0, 32, 32}, {5, DType::kQ8_0, 32, 32}});
  Rng rng(5);
  for (size_t n_slots : {1, 2, 5, 9, 20, 21}) {
    ExpertCache cache(model.geometry, model.backend, model.options(n_slots * model.expert_bytes()));
    std::list<ExpertKey> lru;  // front = oldest
    uint64_t hits = 0, misses = 0;
    for (int step = 0; step < 150; step++) {
      cache.begin_step();
      const std::vector<ExpertKey> keys = random_keys(rng, model, n_slots);
      for (const ExpertKey key : keys) {
        const auto at = std::find(lru.begin(), lru.end(), key);
        (at == lru.end() ? misses : hits)++;
      }
      for (const ExpertKey key :
           keys) {  // touched first, evicted after: a demand never evicts its own hits
        lru.remove(key);
        lru.push_back(key);
      }
      while (lru.size() > n_slots) lru.pop_front();
      ExpertDemand demand = cache.demand(keys);
      std::vector<ExpertKey> got = take_all(demand, model);
      ASSERT_TRUE(std::is_permutation(got.begin(), got.end(), keys.begin(), keys.end()));
      ASSERT_EQ(cache.stats().hits, hits) << "slots " << n_slots << " step " << step;
      ASSERT_EQ(cache.stats().misses, misses);
      ASSERT_EQ(cache.used_bytes(), lru.size() * model.expert_bytes());
    }
  }
}

struct Chaos {
  const TestModel& model;
  Rng rng;
  bool faults;
  int read_faults = 0;

  void run(ExpertCacheOptions options, int n_steps) {
    auto reader = std::make_shared<ReaderScript>();
    auto reader_rng = std::make_shared<Rng>(rng());
    if (faults)
      reader->fail = [reader_rng](const ReadOp&) {
        return (*reader_rng)() % 20 == 0 ? eio() : nullptr;
      };
    script(options, reader);
    ExpertCache cache(model.geometry, model.backend, options);
    if (rng() % 2 && !faults) cache.preload(nullptr);
    for (int i = 0; i < n_steps; i++) step(cache);
  }

  void step(ExpertCache& cache) {
    cache.begin_step();
    const std::vector<ExpertKey> keys = random_keys(rng, model, 8);
    ExpertDemand demand = cache.demand(keys);
    std::set<ExpertKey> left(keys.begin(), keys.end());
    while (true) {
      if (rng() % 12 == 0) return;  // cancel
      std::vector<ExpertLease> leases = demand.next();
      ASSERT_LE(cache.used_bytes(), cache.budget_bytes());
      if (leases.empty()) break;
      std::shuffle(leases.begin(), leases.end(), rng);
      for (ExpertLease& lease : leases) {
        ASSERT_EQ(left.erase(lease.key()), 1u) << "handed out twice, or never asked for";
        if (lease.error()) {
          ASSERT_TRUE(faults);
          read_faults++;
        } else {
          model.expect_right(lease);
        }
        if (rng() % 2) ExpertLease(std::move(lease));  // early; the others at the end of the wave
      }
    }
    ASSERT_TRUE(left.empty());
  }
};

const std::vector<LayerShape> kMixed = {{8, DType::kQ8_0, 32, 32},
                                        {8, DType::kF32, 32, 32},
                                        {0, DType::kF32, 0, 0},
                                        {8, DType::kF32, 32, 96}};

TEST(ExpertProperty, AnyBudgetPolicyAndCancellation) {
  TestModel model(kMixed);
  Chaos chaos{model, Rng(17), /*faults=*/false};
  for (int i = 0; i < 24; i++) {
    const uint64_t most = model.total_bytes() + 4096 - model.expert_bytes();
    ExpertCacheOptions options =
        model.options(model.expert_bytes() + chaos.rng() % most, i % 2 ? "lru" : "ewma");
    options.io_depth = 1 + static_cast<int>(chaos.rng() % 8);
    options.use_uring = i % 3 != 0;
    chaos.run(options, 60);
  }
}

TEST(ExpertProperty, AnyBudgetPolicyAndCancellationOnABadDisk) {
  TestModel model(kMixed);
  Chaos chaos{model, Rng(23), /*faults=*/true};
  for (int i = 0; i < 24; i++) {
    const uint64_t most = model.total_bytes() + 4096 - model.expert_bytes();
    ExpertCacheOptions options =
        model.options(model.expert_bytes() + chaos.rng() % most, i % 2 ? "lru" : "ewma");
    options.io_depth = 1 + static_cast<int>(chaos.rng() % 8);
    options.use_uring = i % 3 != 0;
    chaos.run(options, 60);
  }
  EXPECT_GT(chaos.read_faults, 50);
}

}  // namespace
}  // namespace hob
