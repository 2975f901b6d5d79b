// Slabs, two precisions, prefetch.
#include <gtest/gtest.h>

#include <mutex>
#include <random>

#include "packed_model_util.h"

namespace hob {
namespace {

const std::vector<LayerShape> kShapes = {{6, DType::kQ8_0, 32, 64}, {6, DType::kQ8_0, 32, 64}};

std::vector<ExpertWant> all(int layer, int n, Want want) {
  std::vector<ExpertWant> wants;
  for (int e = 0; e < n; e++) wants.push_back({{layer, e}, want});
  return wants;
}

ExpertCacheOptions mixed(const PackedModel& model, uint64_t n_high, uint64_t n_low) {
  ExpertCacheOptions o = model.options(n_high * model.expert_bytes() + n_low * model.low_bytes());
  o.low_bytes = n_low * model.low_bytes();
  return o;
}

TEST(ExpertPack, EveryByteRightFromSlabs) {
  PackedModel model(kShapes);
  for (bool uring : {true, false})
    for (uint64_t n_slots : {1, 3, 12}) {
      ExpertCacheOptions options = model.options(n_slots * model.expert_bytes());
      options.use_uring = uring;
      ExpertCache cache(model.geometry, model.backend, options);
      for (int layer : {0, 1, 0}) {
        ExpertDemand demand = cache.demand(model.keys(layer));
        EXPECT_EQ(take_all(demand, model).size(), 6u);
      }
    }
}

TEST(ExpertPack, SlabsNeedNoStaging) {
  PackedModel packed(kShapes), low_only(kShapes, false);
  EXPECT_EQ(ExpertCache::staging_bytes(packed.geometry, {}), 0u);
  EXPECT_GT(ExpertCache::staging_bytes(low_only.geometry, {}), 0u);
}

TEST(ExpertPack, ReadsASlabInPieces) {
  PackedModel model({{3, DType::kF32, 512, 1024}});  // 6 MiB
  ExpertCache cache(model.geometry, model.backend, model.options(2 * model.expert_bytes()));
  ExpertDemand demand = cache.demand(model.keys(0));
  EXPECT_EQ(take_all(demand, model).size(), 3u);
}

// The table of research notes, hobbit §1.3.
TEST(ExpertPrecision, WhichVersionServesWhichWant) {
  PackedModel model(kShapes, false);
  ExpertCache cache(model.geometry, model.backend, mixed(model, 3, 3));
  Served s =
      serve(cache, {{{0, 0}, Want::kHigh}, {{0, 1}, Want::kLow}, {{0, 2}, Want::kSkip}}, model);
  EXPECT_EQ(s.precision.at(0), Precision::kHigh);
  EXPECT_EQ(s.precision.at(1), Precision::kLow);
  EXPECT_EQ(s.skipped, std::set<int>{2});
  // What is there serves every lower want, without a read.
  const uint64_t read = cache.stats().bytes_read;
  s = serve(cache, {{{0, 0}, Want::kSkip}, {{0, 1}, Want::kSkip}}, model);
  EXPECT_EQ(s.precision.at(0), Precision::kHigh);
  EXPECT_EQ(s.precision.at(1), Precision::kLow);
  EXPECT_EQ(cache.stats().bytes_read, read);
  // A low copy does not serve a high want.
  s = serve(cache, {{{0, 1}, Want::kHigh}}, model);
  EXPECT_EQ(s.precision.at(1), Precision::kHigh);
  // ... and is gone once the high one is there.
  EXPECT_EQ(cache.used_bytes(), 2 * model.expert_bytes());
  const ExpertCacheStats stats = cache.stats();
  EXPECT_EQ(stats.skips, 1u);
  EXPECT_EQ(stats.low_misses, 1u);
  EXPECT_EQ(stats.low_hits, 1u);
}

TEST(ExpertPrecision, WithoutALowTierLowMeansHigh) {
  PackedModel model(kShapes);
  ExpertCache cache(model.geometry, model.backend, model.options(4 * model.expert_bytes()));
  const Served s = serve(cache, {{{0, 0}, Want::kLow}, {{0, 1}, Want::kSkip}}, model);
  EXPECT_EQ(s.precision.at(0), Precision::kHigh);
  EXPECT_EQ(s.skipped, std::set<int>{1});
}

TEST(ExpertPrecision, OneSlotPerTierServesAWholeDemand) {
  PackedModel model(kShapes);
  ExpertCache cache(model.geometry, model.backend, mixed(model, 1, 1));
  std::vector<ExpertWant> wants = all(0, 6, Want::kLow);
  wants[2].want = wants[4].want = Want::kHigh;
  const Served s = serve(cache, wants, model);
  EXPECT_EQ(s.precision.size(), 6u);
  for (int e = 0; e < 6; e++)
    EXPECT_EQ(s.precision.at(e), e == 2 || e == 4 ? Precision::kHigh : Precision::kLow);
}

// --- faults ---

// "corrupt slab (hash): re-read once, then the request fails with the expert named, the process
// lives"
TEST(ExpertPackFault, CorruptSlabNamesTheExpertAndHurtsNobodyElse) {
  for (Precision p : {Precision::kHigh, Precision::kLow}) {
    PackedModel model(kShapes);
    model.corrupt({0, 3}, p);
    auto reader = std::make_shared<ReaderScript>();
    ExpertCacheOptions options = mixed(model, 6, 6);
    script(options, reader);
    ExpertCache cache(model.geometry, model.backend, options);
    const auto wants = all(0, 6, p == Precision::kHigh ? Want::kHigh : Want::kLow);
    Served s = serve(cache, wants, model);
    EXPECT_EQ(s.precision.size(), 5u);
    ASSERT_EQ(s.error.count(3), 1u);
    EXPECT_EQ(code_of(s.error.at(3)), Code::kDataLoss);
    EXPECT_NE(text_of(s.error.at(3)).find("blk.0 expert 3"), std::string::npos)
        << text_of(s.error.at(3));
    EXPECT_EQ(reader->n_reads, 7);    // six, and one again
    model.corrupt({0, 3}, p, false);  // the disk has recovered
    s = serve(cache, wants, model);
    EXPECT_EQ(s.precision.size(), 6u);
  }
}

TEST(ExpertPackFault, ABitThatFlipsOnceIsReadAgain) {
  PackedModel model(kShapes);
  const ExpertSlab slab = model.slab({0, 3}, Precision::kHigh);
  auto reader = std::make_shared<ReaderScript>();
  std::atomic<int> n_seen{0};
  reader->fail = [&](const ReadOp& op) -> std::exception_ptr {
    // The first read of the slab finds other bytes on the disk, the second the right ones.
    if (op.offset == slab.offset) model.corrupt({0, 3}, Precision::kHigh, n_seen++ == 0);
    return nullptr;
  };
  ExpertCacheOptions options = model.options(12 * model.expert_bytes());
  options.direct_io = false;
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  const Served s = serve(cache, {{{0, 3}, Want::kHigh}}, model);
  EXPECT_EQ(s.precision.count(3), 1u);
  EXPECT_EQ(n_seen, 2);
}

// --- prefetch ---

TEST(ExpertPrefetch, WhatWasGuessedIsThere) {
  PackedModel model(kShapes, false);
  ExpertCache cache(model.geometry, model.backend, model.options(8 * model.expert_bytes()));
  EXPECT_FALSE(cache.prefetch(all(1, 3, Want::kHigh)));
  for (int i = 0; i < 2000 && cache.stats().bytes_read == 0; i++) {
    usleep(1000);
    serve(cache, {{{0, 0}, Want::kHigh}}, model);  // takes in what has arrived
  }
  while (!cache.prefetch(all(1, 3, Want::kHigh))) {
    usleep(1000);
    serve(cache, {{{0, 0}, Want::kHigh}}, model);
  }
  const ExpertCacheStats before = cache.stats();
  const Served s = serve(cache, all(1, 3, Want::kHigh), model);
  EXPECT_EQ(s.precision.size(), 3u);
  EXPECT_EQ(cache.stats().hits - before.hits, 3u);
  EXPECT_EQ(cache.stats().prefetches, 3u);
  EXPECT_EQ(cache.stats().prefetches_used, 3u);
  EXPECT_EQ(cache.stats().prefetches_late, 0u);
}

TEST(ExpertPrefetch, ADemandOvertakesIt) {
  PackedModel model({{8, DType::kQ8_0, 32, 64}, {8, DType::kQ8_0, 32, 64}}, false);
  auto reader = std::make_shared<ReaderScript>();
  reader->hold = true;
  std::mutex mutex;  // reads go on after the demand is served
  std::vector<uint64_t> order;
  reader->fail = [&](const ReadOp& op) -> std::exception_ptr {
    const std::lock_guard lock(mutex);
    order.push_back(op.offset);
    return nullptr;
  };
  ExpertCacheOptions options = model.options(16 * model.expert_bytes());
  options.budget_bytes -= model.expert_bytes();  // not everything fits
  options.io_depth = 2;
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  cache.prefetch(all(1, 7, Want::kHigh));
  while (reader->n_reads < 1) usleep(100);
  ExpertDemand demand = cache.demand(model.keys(0));
  reader->release();
  EXPECT_EQ(take_all(demand, model).size(), 8u);
  // Layer 0 lies before layer 1 in the file. Of the guesses at most what was in flight, half the
  // depth, came before the last of the demand.
  const std::lock_guard lock(mutex);
  const uint64_t layer1 = model.geometry.layers[1].parts[0].offset / kIoAlign * kIoAlign;
  size_t last_demand = 0, n_before = 0;
  for (size_t i = 0; i < order.size(); i++)
    if (order[i] < layer1) last_demand = i;
  for (size_t i = 0; i < last_demand; i++) n_before += order[i] >= layer1;
  EXPECT_LE(n_before, 3u);
}

TEST(ExpertPrefetch, WrongGuessesAreGivenUp) {
  PackedModel model(kShapes, false);
  auto reader = std::make_shared<ReaderScript>();
  reader->hold = true;
  ExpertCacheOptions options = model.options(8 * model.expert_bytes());
  options.io_depth = 1;
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  cache.prefetch(all(1, 4, Want::kHigh));
  ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{1, 5}});
  reader->release();
  EXPECT_EQ(take_all(demand, model).size(), 1u);
  EXPECT_LE(cache.used_bytes(), 2 * model.expert_bytes());  // the demand, and what was in flight
}

TEST(ExpertPrefetch, GuessesDoNotKeepADemandFromItsRoom) {
  PackedModel model(kShapes, false);
  ExpertCache cache(model.geometry, model.backend, model.options(2 * model.expert_bytes()));
  for (int i = 0; i < 50; i++) {
    cache.begin_step();
    cache.prefetch(all(1, 6, Want::kHigh));
    EXPECT_EQ(serve(cache, all(0, 6, Want::kHigh), model).precision.size(), 6u);
    cache.prefetch(all(1, 6, Want::kHigh));
    EXPECT_EQ(serve(cache, all(1, 6, Want::kHigh), model).precision.size(), 6u);
  }
}

TEST(ExpertPrefetch, WhatIsPredictedIsNotEvicted) {
  PackedModel model(kShapes, false);
  ExpertCache cache(model.geometry, model.backend, model.options(4 * model.expert_bytes()));
  serve(cache, {{{1, 0}, Want::kHigh}}, model);  // the oldest under lru
  cache.prefetch(all(1, 1, Want::kHigh));
  for (int e = 0; e < 6; e++) serve(cache, {{{0, e}, Want::kHigh}}, model);
  const uint64_t misses = cache.stats().misses;
  serve(cache, {{{1, 0}, Want::kHigh}}, model);
  EXPECT_EQ(cache.stats().misses, misses);
}

// Everything at once, on a disk that fails now and then.
TEST(ExpertPrefetch, AnyMixOfWantsGuessesAndCancellation) {
  PackedModel model({{7, DType::kQ8_0, 32, 64}, {0, DType::kF32, 0, 0}, {9, DType::kQ5_0, 64, 96}});
  for (unsigned seed = 0; seed < 12; seed++) {
    std::mt19937 rng(seed);
    auto reader = std::make_shared<ReaderScript>();
    std::atomic<unsigned> n{0};
    reader->fail = [&](const ReadOp&) -> std::exception_ptr {
      return seed % 2 && ++n % 17 == 0 ? eio() : nullptr;
    };
    const uint64_t n_high = 1 + rng() % 9, n_low = rng() % 4;
    ExpertCacheOptions options = mixed(model, n_high, n_low);
    options.io_depth = 1 + static_cast<int>(rng() % 4);
    options.policy = rng() % 2 ? "lru" : "ewma-layer";
    script(options, reader);
    ExpertCache cache(model.geometry, model.backend, options);
    const auto some = [&](int layer) {
      std::vector<ExpertWant> wants;
      for (const ExpertKey key : model.keys(layer))
        if (rng() % 3) wants.push_back({key, static_cast<Want>(rng() % 3)});
      return wants;
    };
    for (int step = 0; step < 60; step++) {
      cache.begin_step();
      for (int layer : {0, 2}) {
        const auto wants = some(layer);
        if (rng() % 5 == 0) {
          ExpertDemand given_up = cache.demand(wants);
          if (rng() % 2) given_up.next();
          continue;
        }
        if (rng() % 2) cache.prefetch(some(2));
        const Served s = serve(cache, wants, model);
        EXPECT_EQ(s.precision.size() + s.error.size() + s.skipped.size(), wants.size());
        EXPECT_LE(cache.used_bytes(), options.budget_bytes);
        for (const ExpertWant& w : wants) {
          if (w.want == Want::kHigh && s.precision.count(w.key.expert)) {
            EXPECT_EQ(s.precision.at(w.key.expert), Precision::kHigh);
          }
          if (s.skipped.count(w.key.expert)) {
            EXPECT_EQ(w.want, Want::kSkip);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace hob
