// Injected faults: as many as asked for, the same every time, and the cache survives them.
#include "experts/faulty_reader.h"

#include <gtest/gtest.h>

#include <map>

#include "base/aligned_buffer.h"
#include "experts/expert_cache.h"
#include "experts_test_util.h"

namespace hob {
namespace {

constexpr int kReads = 2000;

// Tag -> whether it failed, for reads of one block each.
std::map<uint64_t, bool> outcomes(const TestModel& model, const FaultPlan& plan) {
  auto reader = make_faulty_reader(make_async_reader(model.geometry.files, {.depth = 4}), plan);
  AlignedBuffer buffer(kIoAlign);
  std::map<uint64_t, bool> failed;
  for (uint64_t tag = 0; tag < kReads; tag++) {
    const ReadOp op{.n_bytes = kIoAlign, .n_required = 1, .dst = buffer.data(), .tag = tag};
    reader->submit({&op, 1});
    std::vector<ReadDone> done;
    while (done.empty()) done = reader->wait();
    EXPECT_EQ(done.size(), 1u);
    EXPECT_EQ(done[0].tag, tag);
    if (done[0].error) {
      EXPECT_EQ(code_of(done[0].error), Code::kIo);
      EXPECT_NE(text_of(done[0].error).find("injected"), std::string::npos);
    }
    failed[tag] = done[0].error != nullptr;
  }
  return failed;
}

int n_failed(const std::map<uint64_t, bool>& outcomes) {
  int n = 0;
  for (const auto& [tag, failed] : outcomes) n += failed;
  return n;
}

const std::vector<LayerShape> kShapes = {{6, DType::kQ8_0, 32, 64}};

TEST(FaultyReader, FailsTheShareThatWasAskedFor) {
  TestModel model(kShapes);
  EXPECT_EQ(n_failed(outcomes(model, {.rate = 0, .seed = 1})), 0);
  EXPECT_EQ(n_failed(outcomes(model, {.rate = 1, .seed = 1})), kReads);
  // 200 of 2000: 5 standard deviations are 67.
  EXPECT_NEAR(n_failed(outcomes(model, {.rate = 0.1, .seed = 1})), kReads / 10, 67);
}

TEST(FaultyReader, TheSameSeedFailsTheSameReads) {
  TestModel model(kShapes);
  EXPECT_EQ(outcomes(model, {.rate = 0.1, .seed = 5}), outcomes(model, {.rate = 0.1, .seed = 5}));
  EXPECT_NE(outcomes(model, {.rate = 0.1, .seed = 5}), outcomes(model, {.rate = 0.1, .seed = 6}));
}

TEST(FaultyReader, TheCacheGivesRightExpertsOrErrors) {
  TestModel model(kShapes);
  ExpertCacheOptions options = model.options(2 * model.expert_bytes());  // most demands read
  options.wrap_reader = [](std::unique_ptr<AsyncReader> inner) {
    return make_faulty_reader(std::move(inner), {.rate = 0.05, .seed = 3});
  };
  ExpertCache cache(model.geometry, model.backend, options);
  int n_errors = 0, n_right = 0;
  for (int round = 0; round < 50; round++) {
    ExpertDemand demand = cache.demand(model.keys(0));
    while (true) {
      std::vector<ExpertLease> leases = demand.next();
      if (leases.empty()) break;
      for (const ExpertLease& lease : leases) {
        if (lease.error()) {
          n_errors++;
          continue;
        }
        model.expect_right(lease);
        n_right++;
      }
    }
  }
  EXPECT_EQ(n_errors + n_right, 50 * 6);
  EXPECT_GT(n_errors, 0);
  EXPECT_GT(n_right, n_errors);
}

TEST(FaultyReader, PlansAreChecked) {
  const FaultPlan plan = parse_fault_plan("0.25:7");
  EXPECT_EQ(plan.rate, 0.25);
  EXPECT_EQ(plan.seed, 7u);
  for (const char* bad : {"", "1", "0.1:", ":1", "-0.1:1", "1.5:1", "nan:1", "0.1:1x", "x:1"})
    EXPECT_THROW(parse_fault_plan(bad), Error) << bad;
}

}  // namespace
}  // namespace hob
