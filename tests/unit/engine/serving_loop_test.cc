// The serving loop step by step: what happens in which step, and faults of one request.
#include "engine/serving_loop.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "unit/engine/serving_test_util.h"

namespace hob {
namespace {

using Clock = std::chrono::steady_clock;

ServingSetup setup_of(ModelSession& session, const Tokenizer& tokenizer) {
  const EngineLimits& limits = session.engine().limits();
  ServingSetup setup;
  setup.engine = &session.engine();
  setup.experts = session.experts();
  setup.tokenizer = &tokenizer;
  setup.limits = {.max_rows = limits.max_rows,
                  .max_logit_rows = limits.max_logit_rows,
                  .max_seqs = limits.max_logit_rows};
  setup.max_model_len = limits.n_ctx;
  return setup;
}

class ServingLoopTest : public testing::Test {
 protected:
  void load(const SessionOptions& options = serving_options()) { use(load_session(options)); }
  void use(std::unique_ptr<ModelSession> session) {
    session_ = std::move(session);
    tokenizer_ = tokenizer_of(*session_);
    loop_ = std::make_unique<ServingLoop>(setup_of(*session_, *tokenizer_));
  }
  std::shared_ptr<Recorder> add(const CompletionRequest& r) {
    auto sink = std::make_shared<Recorder>(r.n);
    loop_->add(r, sink, Clock::now());
    return sink;
  }
  bool step() { return loop_->step(Clock::now()); }
  void run_all() {
    while (step()) {
    }
  }
  int n_used() const { return loop_->stats().n_kv_blocks_used; }

  std::unique_ptr<ModelSession> session_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ServingLoop> loop_;
};

TEST_F(ServingLoopTest, CancelFreesTheBlocksAtOnce) {
  load();
  const auto a = add(greedy_request("a", some_tokens(40), -1));
  const auto b = add(greedy_request("b", some_tokens(40, 7), -1));
  for (int i = 0; i < 10; i++) step();
  const int both = n_used();
  loop_->cancel("a");
  EXPECT_TRUE(a->ended());
  EXPECT_EQ(a->choices[0].finish, FinishReason::kCancelled);
  EXPECT_EQ(n_used(), both / 2);
  loop_->cancel("a");
  run_all();
  EXPECT_EQ(b->choices[0].tokens.size(), 88u);
  EXPECT_EQ(n_used(), 0);
}

TEST_F(ServingLoopTest, DeadlineEndsARunningRequest) {
  load();
  CompletionRequest r = greedy_request("a", some_tokens(40), -1);
  r.deadline = Clock::now() + std::chrono::hours(1);
  const auto a = add(r);
  for (int i = 0; i < 5; i++) step();
  EXPECT_FALSE(a->ended());
  loop_->step(*r.deadline);
  ASSERT_TRUE(a->ended());
  EXPECT_EQ(a->choices[0].finish, FinishReason::kDeadline);
  EXPECT_EQ(a->choices[0].tokens.size(), 4u);
  EXPECT_EQ(n_used(), 0);
}

TEST_F(ServingLoopTest, ThePromptIsSharedByItsChoices) {
  load();
  CompletionRequest r = greedy_request("a", some_tokens(64), 20);
  r.sampling.temperature = 1;
  r.n = 4;
  const auto a = add(r);
  step();
  step();
  EXPECT_EQ(n_used(), 4);  // 64 tokens
  EXPECT_EQ(loop_->stats().n_running, 4);
  step();
  EXPECT_EQ(n_used(), 8);  // and a block of its own for each
  run_all();
  EXPECT_TRUE(a->ended());
  EXPECT_EQ(n_used(), 0);
}

TEST_F(ServingLoopTest, UsageAddsUp) {
  load();
  const auto a = add(greedy_request("a", some_tokens(40), 5));
  run_all();
  const ServeStats s = loop_->stats();
  EXPECT_EQ(s.n_prompt_tok, 40u);
  EXPECT_EQ(s.n_generated_tok, 5u);
  EXPECT_EQ(s.n_rows, 44u);  // the last token is not computed
  EXPECT_EQ(s.n_finished[static_cast<size_t>(FinishReason::kLength)], 1u);
  EXPECT_GE(a->usage.queue_s, 0);
  EXPECT_GT(a->usage.prefill_s, 0);
  EXPECT_GT(a->usage.decode_s, 0);
}

TEST_F(ServingLoopTest, TextIsTheTokensDecoded) {
  load();
  CompletionRequest r = greedy_request("a", some_tokens(40), 30);
  r.sampling = SamplingParams{.temperature = 2.f, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 4};
  const auto a = add(r);
  run_all();
  Detokenizer detokenizer(*tokenizer_);
  detokenizer.push(r.prompt.back());
  std::string text;
  for (int32_t t : a->choices[0].tokens) text += detokenizer.push(t);
  text += detokenizer.finish();
  EXPECT_EQ(a->choices[0].text, text);
  EXPECT_FALSE(text.empty());
}

TEST_F(ServingLoopTest, ControlTokensBecomeTextIfAsked) {
  load();
  CompletionRequest r = greedy_request("a", some_tokens(10), 3);
  r.logit_bias = {{tokenizer_->eos(), 100.f}};
  const auto hidden = add(r);
  r.id = "b";
  r.skip_special_tokens = false;
  const auto shown = add(r);
  run_all();
  EXPECT_EQ(hidden->choices[0].text, "");
  const std::string eos = tokenizer_->piece(tokenizer_->eos(), true);
  EXPECT_EQ(shown->choices[0].text, eos + eos + eos);
}

TEST_F(ServingLoopTest, ALostExpertEndsTheRequestsThatNeedIt) {
  load();
  const auto expected = add(greedy_request("a", some_tokens(20), 10));
  run_all();
  std::atomic<bool> broken = true;
  ModelPlan plan = plan_model(serving_options());
  plan.plan.resident = false;  // start with an empty cache
  plan.cache.wrap_reader = [&](std::unique_ptr<AsyncReader> inner) {
    return std::make_unique<BrokenReader>(std::move(inner), &broken);
  };
  loop_.reset();
  use(ModelSession::load(std::move(plan), {}));
  CompletionRequest two = greedy_request("bad", some_tokens(20), 10);
  two.n = 2;
  const auto bad = add(two);
  step();
  ASSERT_TRUE(bad->ended());
  ASSERT_TRUE(bad->error);
  EXPECT_THROW(std::rethrow_exception(bad->error), Error);
  EXPECT_EQ(bad->choices[1].finish, FinishReason::kError);
  EXPECT_EQ(n_used(), 0);
  broken = false;
  const auto good = add(greedy_request("good", some_tokens(20), 10));
  run_all();
  EXPECT_EQ(good->choices[0].tokens, expected->choices[0].tokens);
}

// Logits that nothing can be sampled from end their request, not the server.
TEST_F(ServingLoopTest, BrokenLogitsEndTheRequest) {
  load();
  CompletionRequest r = greedy_request("bad", some_tokens(20), 10);
  for (int t = 0; t < 320; t++) r.logit_bias.emplace_back(t, -INFINITY);
  const auto bad = add(r);
  const auto good = add(greedy_request("good", some_tokens(20, 3), 10));
  run_all();
  ASSERT_TRUE(bad->error);
  EXPECT_EQ(bad->choices[0].finish, FinishReason::kError);
  EXPECT_EQ(good->choices[0].tokens.size(), 10u);
  EXPECT_FALSE(good->error);
  EXPECT_EQ(n_used(), 0);
}

TEST_F(ServingLoopTest, PreemptedRequestsGoOnWhereTheyWere) {
  SessionOptions options = serving_options(256);
  options.kv_tok = 256;
  load(options);
  CompletionRequest urgent = greedy_request("urgent", some_tokens(40), 120);
  CompletionRequest patient = greedy_request("patient", some_tokens(40, 9), 120);
  patient.priority = 1;
  const auto b = add(patient);
  const auto a = add(urgent);
  run_all();
  EXPECT_EQ(a->usage.n_preemptions, 0);
  EXPECT_GT(b->usage.n_preemptions, 0);
  EXPECT_EQ(a->choices[0].tokens.size(), 120u);
  EXPECT_EQ(b->choices[0].tokens.size(), 120u);
  EXPECT_EQ(n_used(), 0);
}

}  // namespace
}  // namespace hob
