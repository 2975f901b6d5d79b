// Waiting for the disk costs (nearly) no processor time: threads park.
#include <gtest/gtest.h>
#include <time.h>

#include <chrono>
#include <thread>

#include "engine/engine.h"
#include "engine/model_session.h"

namespace hob {
namespace {

// A disk that takes 20 ms for whatever is in flight.
class SlowReader final : public AsyncReader {
 public:
  explicit SlowReader(std::unique_ptr<AsyncReader> inner) : inner_(std::move(inner)) {}
  std::string_view name() const override { return inner_->name(); }
  bool direct(int file) const override { return inner_->direct(file); }
  void submit(std::span<const ReadOp> ops) override { inner_->submit(ops); }
  std::vector<ReadDone> wait() override {
    std::vector<ReadDone> done = inner_->wait();
    if (!done.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return done;
  }
  void wake() override { inner_->wake(); }

 private:
  std::unique_ptr<AsyncReader> inner_;
};

double process_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct Cost {
  double cpu_s = 0, wait_s = 0;
};

constexpr int kThreads = 3;

Cost decode(bool slow_disk) {
  SessionOptions options;
  options.path = std::string(HOB_TEST_DATA) + "/model/olmoe.gguf";
  options.n_threads = kThreads;
  options.n_ctx = 64;
  ModelPlan plan = plan_model(options);
  if (slow_disk) {  // one slot: every use is a read
    plan.cache.budget_bytes = ExpertCache::smallest_budget(plan.layout.experts, *plan.backend);
    plan.plan.resident = false;
    plan.cache.wrap_reader = [](std::unique_ptr<AsyncReader> inner) {
      return std::make_unique<SlowReader>(std::move(inner));
    };
  }
  const auto session = ModelSession::load(std::move(plan), {});
  Engine& engine = session->engine();
  const int seq = engine.open();
  const double cpu_before = process_cpu_seconds();
  for (int i = 0; i < 12; i++) {
    engine.feed(seq, std::vector<int32_t>{(17 * i) % 256}, 1);
    while (engine.step({})) {
    }
  }
  EXPECT_FALSE(engine.error(seq));
  return {process_cpu_seconds() - cpu_before,
          static_cast<double>(engine.expert_stats().stall_ns) * 1e-9};
}

TEST(WaitCpu, ThreadsParkWhileTheDiskWorks) {
  const Cost resident = decode(false), streamed = decode(true);
  EXPECT_GT(streamed.wait_s, 0.1);  // the disk was slow
  // 5 % of a core for each compute thread; what the loader does is in it too.
  EXPECT_LT(streamed.cpu_s - resident.cpu_s, 0.05 * kThreads * streamed.wait_s)
      << streamed.cpu_s << " s against " << resident.cpu_s << " s resident, waited "
      << streamed.wait_s << " s";
}

}  // namespace
}  // namespace hob
