// A step of a size that was seen before allocates nothing: no pauses, no growth that the memory
// plan does not know.
#include <gtest/gtest.h>

#include <ostream>

#include "engine/engine.h"
#include "engine/model_session.h"
#include "unit/engine/allocation_util.h"

namespace hob {
namespace {

struct Case {
  const char* name;
  const char* model;
  KvType kv;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class StepAllocation : public testing::TestWithParam<Case> {
 protected:
  StepAllocation() {
    SessionOptions options;
    options.path = std::string(HOB_TEST_DATA) + "/model/" + GetParam().model;
    options.n_threads = 2;
    options.n_ctx = 64;
    options.n_seqs = 2;
    options.chunk = 16;
    options.kv = GetParam().kv;
    session_ = ModelSession::load(plan_model(options), {});
    a_ = session_->engine().open();
    b_ = session_->engine().open();
  }

  // Allocations of the steps alone: two prompts in chunks, then both sequences decode.
  size_t run() {
    Engine& engine = session_->engine();
    engine.rewind(a_, 0);
    engine.rewind(b_, 0);
    const LogitsSink sink = [this](int, int, std::span<const float> row) { sum_ += row[0]; };
    size_t n = 0;
    const auto work_off = [&] {
      const size_t before = n_allocations();
      while (engine.step(sink)) n_steps_++;
      n += n_allocations() - before;
    };
    const auto tokens = [](int n_tok) {
      std::vector<int32_t> t;
      for (int i = 0; i < n_tok; i++) t.push_back((11 + 29 * i) % 256);
      return t;
    };
    engine.feed(a_, tokens(30), 1);
    engine.feed(b_, tokens(21), 1);
    work_off();
    for (int i = 0; i < 20; i++) {
      engine.feed(a_, tokens(1), 1);
      if (i % 2) engine.feed(b_, tokens(1), 1);
      work_off();
    }
    EXPECT_FALSE(engine.error(a_) || engine.error(b_));
    return n;
  }

  std::unique_ptr<ModelSession> session_;
  int a_ = 0, b_ = 0;
  int n_steps_ = 0;
  float sum_ = 0;
};

TEST_P(StepAllocation, NoneAfterTheFirstRounds) {
  EXPECT_GT(run(), 0u);  // the counter counts: buffers grow to the size of the steps
  EXPECT_GE(n_steps_, 24);
  // A worker that claims its first task of some kind late grows a buffer of its own then.
  constexpr int kCleanRounds = 3, kMaxRounds = 40;
  int n_clean = 0, n_rounds = 0;
  while (n_clean < kCleanRounds && n_rounds++ < kMaxRounds) n_clean = run() == 0 ? n_clean + 1 : 0;
  EXPECT_EQ(n_clean, kCleanRounds);
}

INSTANTIATE_TEST_SUITE_P(Models, StepAllocation,
                         testing::Values(Case{"dense_f16_kv", "llama.gguf", KvType::kF16},
                                         Case{"dense_f32_kv", "qwen2_small.gguf", KvType::kF32},
                                         Case{"moe_quantised", "mixtral-Q4_K_M.gguf", KvType::kF16},
                                         Case{"moe_float", "olmoe.gguf", KvType::kF16},
                                         Case{"moe_shared_expert", "qwen2moe.gguf", KvType::kF16}),
                         [](const auto& p) { return std::string(p.param.name); });

}  // namespace
}  // namespace hob
