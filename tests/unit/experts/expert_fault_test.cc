// Disks that fail, files that shrink: the error stays with its expert.
#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <thread>

#include "experts/expert_cache.h"
#include "experts_test_util.h"

namespace hob {
namespace {

const std::vector<LayerShape> kShapes = {{6, DType::kQ8_0, 32, 64}, {6, DType::kQ8_0, 32, 64}};

// Whether `op` touches a part of `key`.
bool touches(const TestModel& model, ExpertKey key, size_t part, const ReadOp& op) {
  const ExpertMatrix& m = model.geometry.layers[static_cast<size_t>(key.layer)].parts[part];
  const uint64_t begin = m.offset + static_cast<uint64_t>(key.expert) * m.bytes_per_expert;
  // The op of this very slice: it starts in the slice's first block and ends where the slice does.
  return op.offset == begin / kIoAlign * kIoAlign &&
         op.offset + op.n_required == begin + m.bytes_per_expert;
}

struct Outcome {
  std::set<int> right, failed;
  std::exception_ptr error;
};
Outcome take_with_errors(ExpertDemand& demand, const TestModel& model) {
  Outcome outcome;
  while (true) {
    std::vector<ExpertLease> leases = demand.next();
    if (leases.empty()) return outcome;
    for (const ExpertLease& lease : leases) {
      if (lease.error()) {
        outcome.error = lease.error();
        outcome.failed.insert(lease.key().expert);
        EXPECT_FALSE(lease.weight(kGate));
      } else {
        model.expect_right(lease);
        outcome.right.insert(lease.key().expert);
      }
    }
  }
}

TEST(ExpertFault, EioStaysInItsLeaseAndTheNextDemandRetries) {
  TestModel model(kShapes);
  for (bool uring : {true, false})
    for (size_t part = 0; part < 3; part++)
      for (uint64_t n_slots : {1, 3, 12}) {
        bool broken = true;
        auto reader = std::make_shared<ReaderScript>();
        reader->fail = [&](const ReadOp& op) -> std::exception_ptr {
          return broken && touches(model, {0, 3}, part, op) ? eio() : nullptr;
        };
        ExpertCacheOptions options = model.options(n_slots * model.expert_bytes());
        options.use_uring = uring;
        script(options, reader);
        ExpertCache cache(model.geometry, model.backend, options);
        {
          ExpertDemand demand = cache.demand(model.keys(0));
          const Outcome outcome = take_with_errors(demand, model);
          EXPECT_EQ(outcome.right, (std::set<int>{0, 1, 2, 4, 5}));
          EXPECT_EQ(outcome.failed, std::set<int>{3});
          EXPECT_EQ(code_of(outcome.error), Code::kIo);
        }
        EXPECT_EQ(cache.stats().read_errors, 1u);
        EXPECT_LE(cache.used_bytes(), 5 * model.expert_bytes());
        {
          ExpertDemand other = cache.demand(model.keys(1));
          EXPECT_EQ(take_all(other, model).size(), 6u);
        }
        broken = false;
        ExpertDemand again = cache.demand(model.keys(0));
        EXPECT_EQ(take_all(again, model).size(), 6u);
      }
}

TEST(ExpertFault, EveryReadFailing) {
  TestModel model(kShapes);
  auto reader = std::make_shared<ReaderScript>();
  reader->fail = [](const ReadOp&) { return eio(); };
  ExpertCacheOptions options = model.options(2 * model.expert_bytes());
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  for (int round = 0; round < 3; round++) {
    ExpertDemand demand = cache.demand(model.keys(0));
    EXPECT_EQ(take_with_errors(demand, model).failed.size(), 6u);
    EXPECT_EQ(cache.used_bytes(), 0u);
  }
  EXPECT_EQ(cache.stats().read_errors, 18u);
  EXPECT_EQ(cache.stats().bytes_read, 0u);
}

// A read takes 5 ms instead of the 50 us that the page cache takes: a hundred times slower.
TEST(ExpertFault, DeviceAHundredTimesSlower) {
  TestModel model(kShapes);
  auto reader = std::make_shared<ReaderScript>();
  reader->fail = [](const ReadOp&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return std::exception_ptr();
  };
  ExpertCacheOptions options = model.options(8 * model.expert_bytes());
  options.io_depth = 2;
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  std::vector<ExpertWant> guesses;
  for (const ExpertKey key : model.keys(1)) guesses.push_back({key, Want::kHigh});
  for (int round = 0; round < 2; round++) {
    cache.prefetch(guesses);
    for (int layer : {0, 1}) {  // waits, and gets what it asked for
      ExpertDemand demand = cache.demand(model.keys(layer));
      EXPECT_EQ(take_all(demand, model).size(), 6u);
    }
  }
  EXPECT_GT(cache.stats().stall_ns, 0u);
  EXPECT_EQ(cache.stats().read_errors, 0u);
  cache.prefetch(guesses);  // the destructor gives up what nobody waits for
}

// One piece of a slice that is read in several fails, first, middle or last.
TEST(ExpertFault, EioInOnePieceOfALargeSlice) {
  TestModel model({{2, DType::kF32, 600, 1000}});  // 2.4 MB per matrix: two reads
  for (int depth : {1, 8})
    for (int which = 0; which < 6; which++) {
      int n = 0;
      auto reader = std::make_shared<ReaderScript>();
      reader->fail = [&n, which](const ReadOp&) { return n++ == which ? eio() : nullptr; };
      ExpertCacheOptions options = model.options(model.expert_bytes());
      options.io_depth = depth;
      script(options, reader);
      ExpertCache cache(model.geometry, model.backend, options);
      {
        ExpertDemand demand = cache.demand(std::vector<ExpertKey>{{0, 0}});
        ASSERT_TRUE(demand.next().at(0).error()) << depth << " " << which;
        EXPECT_TRUE(demand.next().empty());
      }
      // No staging buffer got lost: the other expert needs them all, twice.
      for (int e : {1, 0}) {
        ExpertDemand good = cache.demand(std::vector<ExpertKey>{{0, e}});
        EXPECT_FALSE(good.next().at(0).error());
      }
    }
}

TEST(ExpertFault, FileTruncatedWhileRunning) {
  TestModel model(kShapes);
  for (bool uring : {true, false}) {
    ExpertCacheOptions options = model.options(2 * model.expert_bytes());
    options.use_uring = uring;
    ExpertCache cache(model.geometry, model.backend, options);
    const ExpertMatrix& down = model.geometry.layers[0].parts[kDown];
    model.file->truncate(down.offset + 2 * down.bytes_per_expert + 40);
    {
      ExpertDemand demand = cache.demand(model.keys(0));
      const Outcome outcome = take_with_errors(demand, model);
      EXPECT_EQ(outcome.right, (std::set<int>{0, 1}));
      EXPECT_EQ(outcome.failed, (std::set<int>{2, 3, 4, 5}));
      EXPECT_EQ(code_of(outcome.error), Code::kDataLoss);
      EXPECT_NE(text_of(outcome.error).find(model.file->path()), std::string::npos);
      EXPECT_NE(text_of(outcome.error).find("offset"), std::string::npos);
    }
    model.file->write(model.n_bytes);  // somebody copies it back
    ExpertDemand again = cache.demand(model.keys(0));
    EXPECT_EQ(take_all(again, model).size(), 6u);
  }
}

TEST(ExpertFault, PreloadReportsTheErrorAndTheCacheGoesOn) {
  TestModel model(kShapes);
  bool broken = true;
  auto reader = std::make_shared<ReaderScript>();
  reader->fail = [&](const ReadOp& op) -> std::exception_ptr {
    return broken && touches(model, {1, 2}, kUp, op) ? eio() : nullptr;
  };
  ExpertCacheOptions options = model.options(model.total_bytes());
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  EXPECT_THROW(cache.preload(nullptr), Error);
  broken = false;
  ExpertDemand demand = cache.demand(model.keys(1));
  EXPECT_EQ(take_all(demand, model).size(), 6u);
  EXPECT_EQ(cache.stats().hits, 5u);
}

TEST(ExpertFault, MissingFileIsAnErrorOfTheConstructor) {
  TestModel model(kShapes);
  ExpertGeometry geometry = model.geometry;
  geometry.files = {"/nonexistent/model.gguf"};
  try {
    ExpertCache cache(geometry, model.backend, model.options(model.total_bytes()));
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kIo);
    EXPECT_NE(std::string(e.what()).find("/nonexistent/model.gguf"), std::string::npos);
  }
}

TEST(ExpertFault, UnknownPolicyIsAnErrorOfTheConstructor) {
  TestModel model(kShapes);
  EXPECT_THROW(
      ExpertCache(model.geometry, model.backend, model.options(model.total_bytes(), "magic")),
      Error);
}

// Errors after cancellation belong to nobody.
TEST(ExpertFault, ErrorsOfACancelledDemandAreForgotten) {
  TestModel model(kShapes);
  std::atomic<bool> broken = true;
  auto reader = std::make_shared<ReaderScript>();
  reader->fail = [&broken](const ReadOp&) -> std::exception_ptr {
    return broken ? eio() : nullptr;
  };
  ExpertCacheOptions options = model.options(4 * model.expert_bytes());
  script(options, reader);
  ExpertCache cache(model.geometry, model.backend, options);
  reader->hold = true;
  { ExpertDemand demand = cache.demand(model.keys(0)); }
  reader->release();
  {
    ExpertDemand demand = cache.demand(model.keys(1));
    take_with_errors(demand, model);
  }
  broken = false;
  ExpertDemand again = cache.demand(model.keys(1));
  EXPECT_EQ(take_all(again, model).size(), 6u);
}

}  // namespace
}  // namespace hob
