#include "experts/expert_cache.h"

#include <gtest/gtest.h>

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <set>
#include <thread>

#include "base/clock.h"
#include "experts/slot_pool.h"
#include "experts_test_util.h"

namespace hob {
namespace {

using std::chrono::milliseconds;

// Two layers with experts, a dense one between; slices of odd sizes (34-byte blocks), several reads
// per file block.
const std::vector<LayerShape> kUniform = {
    {6, DType::kQ8_0, 32, 64}, {0, DType::kF32, 0, 0}, {6, DType::kQ8_0, 32, 64}};
// Sizes differ by layer: about 10, 33 and 63 KiB.
const std::vector<LayerShape> kMixed = {
    {4, DType::kQ8_0, 32, 64}, {4, DType::kF32, 32, 64}, {4, DType::kF32, 64, 80}};

std::vector<ExpertKey> sorted(std::vector<ExpertKey> keys) {
  std::sort(keys.begin(), keys.end());
  return keys;
}

void expect_all_right(const TestModel& model, ExpertCacheOptions options) {
  ExpertCache cache(model.geometry, model.backend, options);
  for (int round = 0; round < 3; round++) {
    cache.begin_step();
    for (int layer = 0; layer < static_cast<int>(model.geometry.layers.size()); layer++) {
      const std::vector<ExpertKey> keys = model.keys(layer);
      ExpertDemand demand = cache.demand(keys);
      EXPECT_EQ(sorted(take_all(demand, model)), keys);
      EXPECT_LE(cache.used_bytes(), options.budget_bytes);
    }
  }
  EXPECT_EQ(cache.stats().read_errors, 0u);
}

TEST(ExpertCache, EveryByteRightUnderEveryBudget) {
  TestModel model(kUniform);
  const uint64_t one = model.expert_bytes();
  for (uint64_t n = 1; n <= 13; n++) expect_all_right(model, model.options(n * one));
  expect_all_right(model, model.options(2 * one - 1));
}

TEST(ExpertCache, EveryByteRightWithMixedSizes) {
  TestModel model(kMixed);
  for (uint64_t budget = model.expert_bytes(); budget < model.total_bytes() + 8192;
       budget += 20'000)
    expect_all_right(model, model.options(budget, "ewma"));
}

TEST(ExpertCache, EveryByteRightWithEveryWayOfReading) {
  TestModel model(kUniform);
  for (bool uring : {true, false})
    for (bool direct : {true, false})
      for (int depth : {1, 3, 32}) {
        ExpertCacheOptions options = model.options(3 * model.expert_bytes());
        options.use_uring = uring;
        options.direct_io = direct;
        options.io_depth = depth;
        expect_all_right(model, options);
      }
}

TEST(ExpertCache, EveryByteRightFromTmpfs) {
  if (!std::filesystem::is_directory("/dev/shm"))
    GTEST_SKIP() << "needs a tmpfs, which refuses O_DIRECT: no /dev/shm here (ls -d /dev/shm)";
  TestModel model(kUniform, "/dev/shm");
  expect_all_right(model, model.options(2 * model.expert_bytes()));
}

// Larger than one read: the slice arrives in pieces.
TEST(ExpertCache, SliceLargerThanOneRead) {
  TestModel model({{2, DType::kF32, 600, 1000}});  // 2.4 MB per matrix
  ExpertCacheOptions options = model.options(model.expert_bytes());
  EXPECT_LE(ExpertCache::staging_bytes(model.geometry, options), 9u * 2'500'000);
  expect_all_right(model, options);
}

TEST(ExpertCache, BudgetBelowOneExpertNamesTheSmallestThatWorks) {
  TestModel model(kMixed);
  const uint64_t smallest = ExpertCache::smallest_budget(model.geometry, model.backend);
  try {
    ExpertCache cache(model.geometry, model.backend, model.options(smallest - 1));
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kResourceExhausted);
    EXPECT_NE(std::string(e.what()).find(std::to_string(smallest)), std::string::npos) << e.what();
  }
  ExpertCache cache(model.geometry, model.backend, model.options(smallest));
}

TEST(ExpertCache, ModelWithoutExpertsNeedsNothing) {
  TestModel model({{0, DType::kF32, 0, 0}});
  ExpertCache cache(model.geometry, model.backend, model.options(0));
  EXPECT_EQ(cache.total_bytes(), 0u);
  EXPECT_TRUE(cache.resident());
  cache.preload(nullptr);
  EXPECT_TRUE(cache.demand(std::vector<ExpertKey>{}).next().empty());
}

TEST(ExpertCache, SecondUseIsAHitAndReadsNothing) {
  TestModel model(kUniform);
  ExpertCache cache(model.geometry, model.backend, model.options(4 * model.expert_bytes()));
  const std::vector<ExpertKey> keys = {{0, 1}, {0, 4}};
  for (int round = 0; round < 2; round++) {
    ExpertDemand demand = cache.demand(keys);
    take_all(demand, model);
  }
  const ExpertCacheStats stats = cache.stats();
  EXPECT_EQ(stats.misses, 2u);
  EXPECT_EQ(stats.hits, 2u);
  uint64_t stock = 0;
  for (const ExpertMatrix& m : model.geometry.layers[0].parts) stock += m.bytes_per_expert;
  EXPECT_EQ(stats.bytes_read, 2 * stock);
  EXPECT_EQ(stats.evictions, 0u);
  EXPECT_GT(stats.stall_ns, 0u);
  cache.reset_stats();
  EXPECT_EQ(cache.stats().hits + cache.stats().misses + cache.stats().bytes_read, 0u);
}

TEST(ExpertCache, HitsComeAtOnceWhileMissesAreStillBeingRead) {
  TestModel model(kUniform);
  auto reader = std::make_shared<ReaderScript>();
  ExpertCacheOptions options = model.options(6 * model.expert_bytes());
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  {
    ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 2}, {0, 3}});
    take_all(demand, model);
  }
  reader->hold = true;  // nothing arrives
  ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 0}, {0, 2}, {0, 1}, {0, 3}});
  std::vector<ExpertKey> first;
  for (const ExpertLease& lease : demand.next()) first.push_back(lease.key());
  EXPECT_EQ(first, (std::vector<ExpertKey>{{0, 2}, {0, 3}}));
  reader->release();
  EXPECT_EQ(sorted(take_all(demand, model)), (std::vector<ExpertKey>{{0, 0}, {0, 1}}));
}

// A read that was under way when its demand was cancelled ends as cache content, and is not read
// twice.
TEST(ExpertCache, ReadsOfACancelledDemandServeTheNextOne) {
  TestModel model(kUniform);
  auto reader = std::make_shared<ReaderScript>();
  ExpertCacheOptions options = model.options(6 * model.expert_bytes());
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  reader->hold = true;
  {
    ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 0}});
    while (reader->n_reads < 3) std::this_thread::yield();
  }
  ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 0}, {0, 1}});
  reader->release();
  EXPECT_EQ(take_all(demand, model).size(), 2u);
  EXPECT_EQ(reader->n_reads, 6);
}

TEST(ExpertCache, OrderOfArrivalNotOrderOfDemand) {
  TestModel model(kUniform);
  ExpertCache cache(model.geometry, model.backend, model.options(6 * model.expert_bytes()));
  {
    ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 5}});
    take_all(demand, model);
  }
  ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 0}, {0, 5}});
  EXPECT_EQ(demand.next().at(0).key(), (ExpertKey{0, 5}));
  EXPECT_EQ(demand.next().at(0).key(), (ExpertKey{0, 0}));
  EXPECT_TRUE(demand.next().empty());
  EXPECT_TRUE(demand.next().empty());
}

// While keys still wait for a slot, next() leaves slots to the loader.
TEST(ExpertCache, WavesLeaveTheLoaderRoomToWork) {
  TestModel model(kUniform);
  ExpertCache cache(model.geometry, model.backend, model.options(4 * model.expert_bytes()));
  {
    ExpertDemand warm = cache.demand(std::vector<ExpertKey>{{0, 0}, {0, 1}, {0, 2}, {0, 3}});
    take_all(warm, model);
  }
  const std::vector<ExpertKey> keys = model.keys(0);
  ExpertDemand demand = cache.demand(keys);  // 4 hits, 2 without a slot
  EXPECT_EQ(demand.next().size(), 2u);       // temporary: unpinned at once, so both reads start
  EXPECT_EQ(demand.next().at(0).key(), (ExpertKey{0, 2}));
  std::vector<ExpertKey> rest = take_all(demand, model);
  for (const ExpertKey key : rest) EXPECT_GE(key.expert, 3);
  EXPECT_EQ(cache.stats().hits, 4u);
  EXPECT_EQ(cache.stats().evictions, 2u);
}

TEST(ExpertCache, EachExpertIsReadOncePerDemand) {
  TestModel model(kUniform);
  auto reader = std::make_shared<ReaderScript>();
  for (uint64_t n_slots : {1, 2, 5}) {
    ExpertCacheOptions options = model.options(n_slots * model.expert_bytes());
    script(options, reader);
    ExpertCache cache(model.geometry, model.backend, options);
    reader->n_reads = 0;
    ExpertDemand demand = cache.demand(model.keys(2));
    take_all(demand, model);
    EXPECT_EQ(reader->n_reads, 3 * 6);
  }
}

TEST(ExpertCache, LeasedExpertsAreNeverEvicted) {
  TestModel model(kUniform);
  for (const char* policy : {"lru", "ewma"}) {
    ExpertCache cache(model.geometry, model.backend,
                      model.options(3 * model.expert_bytes(), policy));
    std::vector<ExpertLease> kept;
    {
      ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 0}, {0, 1}});
      while (kept.size() < 2)
        for (ExpertLease& lease : demand.next()) kept.push_back(std::move(lease));
      EXPECT_TRUE(demand.next().empty());
    }
    for (int round = 0; round < 3; round++) {  // everything else goes through the one slot left
      ExpertDemand demand = cache.demand(model.keys(2));
      EXPECT_EQ(take_all(demand, model).size(), 6u);
      for (const ExpertLease& lease : kept) model.expect_right(lease);
    }
    kept.clear();
    cache.reset_stats();
    ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 0}, {0, 1}});
    take_all(demand, model);
    EXPECT_EQ(cache.stats().hits, 2u);
  }
}

TEST(ExpertCache, MovedLeaseUnpinsOnce) {
  TestModel model(kUniform);
  ExpertCache cache(model.geometry, model.backend, model.options(model.expert_bytes()));
  ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 0}, {0, 1}});
  ExpertLease a = std::move(demand.next().at(0));
  ExpertLease b;
  b = std::move(a);
  model.expect_right(b);
  a = ExpertLease();
  b = ExpertLease();
  EXPECT_EQ(demand.next().at(0).key(), (ExpertKey{0, 1}));
}

TEST(ExpertCache, CancelledDemandLeavesAWorkingCache) {
  TestModel model(kUniform);
  for (int n_taken = 0; n_taken < 4; n_taken++) {
    ExpertCacheOptions options = model.options(4 * model.expert_bytes());
    options.io_depth = 2;
    ExpertCache cache(model.geometry, model.backend, options);
    for (int round = 0; round < 5; round++) {
      ExpertDemand demand = cache.demand(model.keys(round % 2 ? 0 : 2));
      for (int i = 0; i < n_taken; i++) demand.next();
    }
    EXPECT_LE(cache.used_bytes(), options.budget_bytes);
    ExpertDemand demand = cache.demand(model.keys(0));
    EXPECT_EQ(sorted(take_all(demand, model)), model.keys(0));
  }
}

TEST(ExpertCache, DestroyedWithReadsInFlight) {
  TestModel model(kUniform);
  for (bool uring : {true, false}) {
    ExpertCacheOptions options = model.options(6 * model.expert_bytes());
    options.use_uring = uring;
    ExpertCache cache(model.geometry, model.backend, options);
    ExpertDemand demand = cache.demand(model.keys(0));
  }
}

TEST(ExpertCache, PreloadMakesEverythingResident) {
  for (const auto& shapes : {kUniform, kMixed}) {
    TestModel model(shapes);
    ExpertCache cache(model.geometry, model.backend, model.options(model.total_bytes()));
    EXPECT_TRUE(cache.resident());
    uint64_t last = 0, total = 0;
    cache.preload([&](uint64_t done, uint64_t all) {
      EXPECT_GE(done, last);
      last = done;
      total = all;
    });
    EXPECT_EQ(last, total);
    EXPECT_EQ(total, cache.total_bytes());
    EXPECT_EQ(cache.used_bytes(), cache.total_bytes());
    cache.reset_stats();
    for (int layer = 0; layer < 3; layer++) {
      ExpertDemand demand = cache.demand(model.keys(layer));
      EXPECT_EQ(demand.next().size(), model.keys(layer).size());  // all at once
      EXPECT_EQ(take_all(demand, model).size(), 0u);
    }
    EXPECT_EQ(cache.stats().misses, 0u);
    EXPECT_EQ(cache.stats().bytes_read, 0u);
  }
}

TEST(ExpertCache, PreloadFillsTheBudgetAndSharesItAmongLayers) {
  TestModel model(kUniform);
  ExpertCache cache(model.geometry, model.backend, model.options(6 * model.expert_bytes()));
  EXPECT_FALSE(cache.resident());
  cache.preload(nullptr);
  EXPECT_EQ(cache.used_bytes(), 6 * model.expert_bytes());
  cache.preload(nullptr);  // nothing more to do
  for (int layer : {0, 2}) {
    ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{layer, 0}, {layer, 1}, {layer, 2}});
    take_all(demand, model);
  }
  EXPECT_EQ(cache.stats().hits, 6u);
}

// Pages that the system holds for the pool, whatever the pool itself believes.
uint64_t physical_bytes(SlotPool& pool, uint64_t slot_bytes) {
  const uint64_t n_bytes = static_cast<uint64_t>(pool.n_slots()) * slot_bytes;
  std::vector<unsigned char> present(n_bytes / 4096);
  HOB_CHECK(mincore(pool.data(0), n_bytes, present.data()) == 0);
  uint64_t n = 0;
  for (unsigned char p : present) n += p & 1;
  return n * 4096;
}

TEST(SlotPool, MixedSizesNeverTouchMoreThanTheBudget) {
  constexpr uint64_t kBudget = 10 * 4096;
  SlotPool pool(10, 6 * 4096, kBudget, /*uniform=*/false);
  std::vector<std::pair<int, uint64_t>> held;
  uint64_t seed = 1, used = 0;
  for (int i = 0; i < 3000; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const uint64_t size = (1 + (seed >> 33) % 6) * 4096;
    int slot;
    while ((slot = pool.take(size)) < 0) {
      ASSERT_FALSE(held.empty()) << "an empty pool has room for every expert";
      const size_t victim = (seed >> 40) % held.size();
      pool.give(held[victim].first);
      used -= held[victim].second;
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(victim));
    }
    std::memset(pool.data(slot), 1, size);
    held.push_back({slot, size});
    used += size;
    ASSERT_LE(pool.touched_bytes(), kBudget);
    ASSERT_LE(used, pool.touched_bytes());
    ASSERT_LE(physical_bytes(pool, 6 * 4096), kBudget);
  }
}

// 16 layers x 8 experts per token, everything resident: the cache's own cost. The bound leaves room
// for sanitizers.
TEST(ExpertCache, ResidentTokenIsCheap) {
  TestModel model(std::vector<LayerShape>(16, {16, DType::kQ8_0, 32, 32}));
  ExpertCache cache(model.geometry, model.backend, model.options(model.total_bytes(), "ewma"));
  cache.preload(nullptr);
  int64_t best = INT64_MAX;
  for (int token = 0; token < 50; token++) {
    const int64_t start = now_ns();
    cache.begin_step();
    for (int layer = 0; layer < 16; layer++) {
      std::array<ExpertKey, 8> keys;
      for (int i = 0; i < 8; i++) keys[static_cast<size_t>(i)] = {layer, (i * 2 + token) % 16};
      ExpertDemand demand = cache.demand(keys);
      while (!demand.next().empty()) {
      }
    }
    best = std::min(best, now_ns() - start);
  }
  RecordProperty("ns_per_token", static_cast<int>(best));
  EXPECT_LT(best, 2'000'000);
}

}  // namespace
}  // namespace hob
