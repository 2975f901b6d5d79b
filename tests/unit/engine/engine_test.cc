// The step loop on a real (tiny) model: two layers of four experts, 320 tokens of vocabulary.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/generate.h"
#include "engine/model_session.h"
#include "unit/engine/serving_test_util.h"

namespace hob {
namespace {

const std::string kModel = std::string(HOB_TEST_DATA) + "/model/mixtral-Q4_K_M.gguf";
using Logits = std::vector<float>;

SessionOptions small_options() {
  SessionOptions options;
  options.path = kModel;
  options.n_threads = 2;
  options.n_ctx = 64;
  options.n_seqs = 3;
  options.chunk = 8;
  return options;
}

std::unique_ptr<ModelSession> load(const SessionOptions& options = small_options()) {
  return ModelSession::load(plan_model(options), {});
}

// Logits after the last of `tokens`, computed in a sequence of their own.
Logits logits_of(Engine& engine, std::span<const int32_t> tokens) {
  const int seq = engine.open();
  engine.feed(seq, tokens, 1);
  Logits out;
  while (engine.step(
      [&](int, int, std::span<const float> row) { out.assign(row.begin(), row.end()); })) {
  }
  engine.close(seq);
  return out;
}

Code code_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.code();
  }
  return Code::kInternal;
}

TEST(Engine, LogitsComeForThePositionsThatWantThem) {
  const auto session = load();
  Engine& engine = session->engine();
  const int seq = engine.open();
  engine.feed(seq, some_tokens(20), 3);
  std::vector<int> positions;
  while (engine.step([&](int s, int position, std::span<const float> row) {
    EXPECT_EQ(s, seq);
    EXPECT_EQ(row.size(), 320u);
    positions.push_back(position);
  })) {
  }
  EXPECT_EQ(positions, (std::vector<int>{17, 18, 19}));
  EXPECT_EQ(engine.n_computed(seq), 20);
}

TEST(Engine, NeighboursChangeNothing) {
  const auto session = load();
  Engine& engine = session->engine();
  const Logits alone = logits_of(engine, some_tokens(20));
  const int a = engine.open(), b = engine.open(), c = engine.open();
  engine.feed(a, some_tokens(31, 200), 1);
  engine.feed(b, some_tokens(20), 1);
  engine.feed(c, some_tokens(1, 9), 1);
  Logits among;
  while (engine.step([&](int s, int, std::span<const float> row) {
    if (s == b) among.assign(row.begin(), row.end());
  })) {
  }
  EXPECT_EQ(alone, among);
}

TEST(Engine, RewindThenOtherTokensEqualsAFreshSequence) {
  const auto session = load();
  Engine& engine = session->engine();
  std::vector<int32_t> tokens = some_tokens(20);
  const int seq = engine.open();
  engine.feed(seq, tokens, 0);
  while (engine.step({})) {
  }
  engine.rewind(seq, 11);
  tokens.resize(11);
  for (int32_t t : some_tokens(9, 77)) tokens.push_back(t);
  engine.feed(seq, std::span(tokens).subspan(11), 1);
  Logits again;
  while (engine.step(
      [&](int, int, std::span<const float> row) { again.assign(row.begin(), row.end()); })) {
  }
  engine.close(seq);
  EXPECT_EQ(again, logits_of(engine, tokens));
}

TEST(Engine, BadInputLeavesTheSequenceAlone) {
  const auto session = load();
  Engine& engine = session->engine();
  const int seq = engine.open();
  engine.feed(seq, some_tokens(10), 0);
  EXPECT_EQ(code_of([&] {
              engine.feed(seq, std::vector<int32_t>{1, 320}, 0);
            }),
            Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] { engine.feed(seq, std::vector<int32_t>{-1}, 0); }),
            Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] { engine.feed(seq, some_tokens(55), 0); }), Code::kInvalidArgument);
  EXPECT_EQ(engine.tokens(seq).size(), 10u);
  EXPECT_NO_THROW(engine.feed(seq, some_tokens(54), 0));  // 64 exactly
  while (engine.step({})) {
  }
  EXPECT_EQ(engine.n_computed(seq), 64);
}

TEST(Engine, TooManySequencesFailAlone) {
  const auto session = load();
  Engine& engine = session->engine();
  std::vector<int> seqs;
  for (int i = 0; i < 4; i++) {  // the pool holds three full ones
    seqs.push_back(engine.open());
    engine.feed(seqs.back(), some_tokens(64), 0);
  }
  while (engine.step({})) {
  }
  int n_failed = 0;
  for (int seq : seqs) {
    n_failed += engine.error(seq) != nullptr;
    if (!engine.error(seq)) {
      EXPECT_EQ(engine.n_computed(seq), 64);
    }
  }
  EXPECT_EQ(n_failed, 1);
}

TEST(Engine, UnreadableExpertEndsOnlyTheSequenceThatNeedsIt) {
  std::atomic<bool> broken = false;
  SessionOptions options = small_options();
  const Logits expected = logits_of(load(options)->engine(), some_tokens(12));
  ModelPlan plan = plan_model(options);
  plan.plan.resident = false;  // start with an empty cache
  plan.cache.wrap_reader = [&](std::unique_ptr<AsyncReader> inner) {
    return std::make_unique<BrokenReader>(std::move(inner), &broken);
  };
  const auto session = ModelSession::load(std::move(plan), {});
  Engine& engine = session->engine();
  broken = true;
  const int bad = engine.open();
  engine.feed(bad, some_tokens(6), 1);
  while (
      engine.step([](int, int, std::span<const float>) { FAIL() << "logits of a failed row"; })) {
  }
  ASSERT_TRUE(engine.error(bad));
  EXPECT_EQ(code_of([&] { std::rethrow_exception(engine.error(bad)); }), Code::kIo);
  broken = false;
  EXPECT_EQ(logits_of(engine, some_tokens(12)), expected);  // the engine goes on
  engine.rewind(bad, 0);                                    // and so can the sequence
  engine.feed(bad, some_tokens(12), 1);
  Logits again;
  while (engine.step(
      [&](int, int, std::span<const float> row) { again.assign(row.begin(), row.end()); })) {
  }
  EXPECT_EQ(again, expected);
}

TEST(Generate, ReusesThePrefixAndEndsAsAsked) {
  const auto session = load();
  Engine& engine = session->engine();
  const int seq = engine.open();
  GenerateOptions options;
  options.sampling.temperature = 0;
  options.max_new_tok = 6;
  std::vector<int32_t> prompt = some_tokens(20);
  const GenerateResult first = generate(engine, seq, prompt, options);
  EXPECT_EQ(first.finish, Finish::kLength);
  EXPECT_EQ(first.tokens.size(), 6u);
  EXPECT_EQ(first.prefill.n_tok, 20);
  EXPECT_EQ(generate(engine, seq, prompt, options).tokens, first.tokens);
  prompt.insert(prompt.end(), first.tokens.begin(), first.tokens.begin() + 3);
  const GenerateResult more = generate(engine, seq, prompt, options);
  EXPECT_LE(more.prefill.n_tok, 4);
  EXPECT_EQ(std::vector(more.tokens.begin(), more.tokens.begin() + 3),
            std::vector(first.tokens.begin() + 3, first.tokens.end()));

  options.is_end = [&](int32_t token) { return token == first.tokens[0]; };
  const GenerateResult stopped = generate(engine, seq, some_tokens(20), options);
  EXPECT_EQ(stopped.finish, Finish::kStop);
  EXPECT_TRUE(stopped.tokens.empty());
  options.is_end = nullptr;
  options.max_new_tok = -1;
  const GenerateResult full = generate(engine, seq, some_tokens(20), options);
  EXPECT_EQ(full.finish, Finish::kContext);
  EXPECT_EQ(full.tokens.size(), 44u + 1);  // the last one is read off the 64th position
}

TEST(Generate, CancelsDuringThePromptAndTheAnswer) {
  const auto session = load();
  Engine& engine = session->engine();
  const int seq = engine.open();
  std::atomic<bool> cancel = true;
  GenerateOptions options;
  options.cancel = &cancel;
  const GenerateResult none = generate(engine, seq, some_tokens(20), options);
  EXPECT_EQ(none.finish, Finish::kCancelled);
  EXPECT_TRUE(none.tokens.empty());
  cancel = false;
  int n = 0;
  options.on_token = [&](int32_t) { cancel = ++n == 3; };
  const GenerateResult some = generate(engine, seq, some_tokens(20), options);
  EXPECT_EQ(some.finish, Finish::kCancelled);
  EXPECT_EQ(some.tokens.size(), 3u);
}

TEST(Generate, PromptMustLeaveRoom) {
  const auto session = load();
  Engine& engine = session->engine();
  const int seq = engine.open();
  EXPECT_EQ(code_of([&] { generate(engine, seq, some_tokens(64), {}); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] { generate(engine, seq, {}, {}); }), Code::kInvalidArgument);
  GenerateOptions bad;
  bad.sampling.top_p = 0;
  EXPECT_EQ(code_of([&] { generate(engine, seq, some_tokens(3), bad); }), Code::kInvalidArgument);
}

TEST(ModelSession, PlanNamesASmallestBudgetThatLoads) {
  SessionOptions options = small_options();
  options.memory_bytes = plan_model(options).plan.smallest_bytes;
  const auto session = load(options);
  EXPECT_LE(session->plan().peak_bytes, *options.memory_bytes);
  EXPECT_FALSE(logits_of(session->engine(), some_tokens(9)).empty());
}

}  // namespace
}  // namespace hob
