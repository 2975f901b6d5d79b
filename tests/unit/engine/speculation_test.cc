// Speculation changes no token: whatever a drafter says, answers equal those of plain decoding, in
// `generate` and in the serving loop, under every sampling parameter, with little memory, with
// streamed and with lost experts.
#include <gtest/gtest.h>

#include <random>

#include "engine/generate.h"
#include "engine/serving_loop.h"
#include "engine/speculator.h"
#include "experts/faulty_reader.h"
#include "unit/engine/random_drafter_util.h"
#include "unit/engine/serving_test_util.h"

namespace hob {
namespace {

using Clock = std::chrono::steady_clock;

SessionOptions options_with_drafts(int n_ctx = 128) {
  SessionOptions options = serving_options(n_ctx);
  options.max_logit_rows = 48;
  return options;
}

std::vector<CompletionRequest> requests() {
  std::vector<CompletionRequest> all;
  for (int i = 0; i < 8; i++) {
    CompletionRequest r =
        greedy_request("r" + std::to_string(i), some_tokens(5 + 3 * i, 1 + i), 30 + i);
    if (i % 2) r.sampling = {.temperature = 1.2f, .seed = static_cast<uint64_t>(i)};
    if (i == 3) r.sampling.repetition_penalty = 1.3f;
    if (i == 3) r.sampling.frequency_penalty = 0.4f;
    if (i == 4) r.n = 3;
    if (i == 5) r.n = 2;
    if (i == 5) r.n_logprobs = 3;
    if (i == 6) r.n_prompt_logprobs = 1;
    if (i == 7) r.ignore_eos = false;
    if (i == 7) r.min_tok = 10;
    if (i == 7)
      for (int t = 0; t < 320; t += 3) r.stop_token_ids.push_back(t);
    all.push_back(std::move(r));
  }
  return all;
}

struct Outcome {
  std::vector<std::shared_ptr<Recorder>> sinks;
  ServeStats stats;
  std::vector<std::vector<int32_t>> texts() const {
    std::vector<std::vector<int32_t>> all;
    const std::vector<CompletionRequest> asked = requests();
    for (size_t i = 0; i < sinks.size(); i++)
      for (const Recorder::Choice& c : sinks[i]->choices) {
        all.push_back(asked[i].prompt);
        all.back().insert(all.back().end(), c.tokens.begin(), c.tokens.end());
      }
    return all;
  }
};

Outcome serve(const SessionOptions& options, Speculator* speculator,
              const std::function<void(ModelPlan&)>& change = {}) {
  ModelPlan plan = plan_model(options);
  if (change) change(plan);
  const auto session = ModelSession::load(std::move(plan), {});
  const auto tokenizer = tokenizer_of(*session);
  const EngineLimits& limits = session->engine().limits();
  ServingSetup setup;
  setup.engine = &session->engine();
  setup.experts = session->experts();
  setup.tokenizer = tokenizer.get();
  setup.limits = {
      .max_rows = limits.max_rows, .max_logit_rows = limits.max_logit_rows, .max_seqs = 8};
  setup.max_model_len = limits.n_ctx;
  setup.speculator = speculator;
  ServingLoop loop(setup);
  Outcome out;
  int n_steps = 0;
  for (const CompletionRequest& r : requests()) {
    out.sinks.push_back(std::make_shared<Recorder>(r.n));
    loop.add(r, out.sinks.back(), Clock::now());
    if (loop.step(Clock::now())) n_steps++;
  }
  while (loop.step(Clock::now()))
    if (++n_steps > 10000) break;
  EXPECT_TRUE(loop.idle());
  out.stats = loop.stats();
  EXPECT_EQ(out.stats.n_kv_blocks_used, 0);
  for (const auto& sink : out.sinks) EXPECT_EQ(sink->broken_rule, "");
  return out;
}

void expect_same(const Outcome& a, const Outcome& b) {
  ASSERT_EQ(a.sinks.size(), b.sinks.size());
  for (size_t i = 0; i < a.sinks.size(); i++) {
    ASSERT_EQ(a.sinks[i]->choices.size(), b.sinks[i]->choices.size());
    for (size_t c = 0; c < a.sinks[i]->choices.size(); c++) {
      const Recorder::Choice &x = a.sinks[i]->choices[c], &y = b.sinks[i]->choices[c];
      EXPECT_EQ(x.tokens, y.tokens) << "request " << i << " choice " << c;
      EXPECT_EQ(x.text, y.text);
      EXPECT_EQ(x.finish, y.finish);
      ASSERT_EQ(x.logprobs.size(), y.logprobs.size());
      for (size_t t = 0; t < x.logprobs.size(); t++) {
        EXPECT_EQ(x.logprobs[t].token, y.logprobs[t].token);
        EXPECT_EQ(x.logprobs[t].logprob, y.logprobs[t].logprob);
      }
    }
    EXPECT_EQ(a.sinks[i]->usage.n_completion_tok, b.sinks[i]->usage.n_completion_tok);
  }
}

std::unique_ptr<Speculator> random_speculator(const Outcome& plain, bool adaptive = false) {
  return std::make_unique<Speculator>(std::make_unique<RandomDrafter>(plain.texts()),
                                      SpeculationOptions{.max_nodes = 12, .adaptive = adaptive});
}

TEST(Speculation, ServesTheSameTokens) {
  const Outcome plain = serve(options_with_drafts(), nullptr);
  for (const bool adaptive : {false, true}) {
    const auto speculator = random_speculator(plain, adaptive);
    const Outcome drafted = serve(options_with_drafts(), speculator.get());
    expect_same(plain, drafted);
    const SpeculationStats& s = drafted.stats.speculation;
    if (adaptive) continue;
    EXPECT_GT(s.n_accepted_tok, 50u);
    EXPECT_LT(s.n_accepted_tok, s.n_draft_tok);
    EXPECT_LT(drafted.stats.n_steps, plain.stats.n_steps);
  }
}

// As with plenty of memory and without drafts. Returns what it did.
Outcome serve_as_plain(const SessionOptions& options) {
  const Outcome plain = serve(options_with_drafts(), nullptr);
  const auto speculator = random_speculator(plain);
  Outcome drafted = serve(options, speculator.get());
  expect_same(plain, drafted);
  EXPECT_GT(drafted.stats.speculation.n_accepted_tok, 20u);
  return drafted;
}

TEST(Speculation, ServesTheSameTokensFromAPoolThatPreempts) {
  SessionOptions options = options_with_drafts();
  options.kv_tok = 112;
  EXPECT_GT(serve_as_plain(options).stats.n_preemptions, 0u);
}

TEST(Speculation, ServesTheSameTokensFromStreamedExperts) {
  SessionOptions options = options_with_drafts();
  options.expert_cache_bytes = 220 << 10;
  EXPECT_GT(serve_as_plain(options).stats.experts.misses, 0u);
  // Drafts fetch experts ahead, and are often wrong.
  options.prefetch_mode = PrefetchMode::kOn;
  EXPECT_GT(serve_as_plain(options).stats.experts.prefetches, 0u);
}

// Reads fail now and then. A guess whose expert is lost is no reason to end a request: whoever ends
// well has said what plain decoding says.
TEST(Speculation, LostExpertsOfGuessesHurtNobody) {
  const Outcome plain = serve(options_with_drafts(), nullptr);
  SessionOptions streamed = options_with_drafts();
  streamed.expert_cache_bytes = 220 << 10;
  const auto speculator = random_speculator(plain);
  const Outcome drafted = serve(streamed, speculator.get(), [](ModelPlan& plan) {
    plan.cache.wrap_reader = [](auto reader) {
      return make_faulty_reader(std::move(reader), {.rate = 1. / 60, .seed = 3});
    };
  });
  int n_failed = 0, n_good = 0;
  for (size_t i = 0; i < plain.sinks.size(); i++) {
    for (size_t c = 0; c < plain.sinks[i]->choices.size(); c++) {
      const std::vector<int32_t>& want = plain.sinks[i]->choices[c].tokens;
      const std::vector<int32_t>& got = drafted.sinks[i]->choices[c].tokens;
      ASSERT_LE(got.size(), want.size());
      EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin()));
    }
    (drafted.sinks[i]->error ? n_failed : n_good)++;
  }
  EXPECT_GT(n_good, 0);
  EXPECT_GT(n_failed, 0);
  EXPECT_GT(drafted.stats.speculation.n_accepted_tok, 0u);
}

TEST(Speculation, GeneratesTheSameTokens) {
  const auto session = load_session(options_with_drafts());
  Engine& engine = session->engine();
  for (const float temperature : {0.f, 1.f}) {
    GenerateOptions options;
    options.sampling.temperature = temperature;
    options.sampling.repetition_penalty = 1.2f;
    options.sampling.seed = 5;
    const int seq = engine.open();
    const GenerateResult plain = generate(engine, seq, some_tokens(9), options);
    EXPECT_EQ(plain.finish, Finish::kContext);
    std::vector<int32_t> text = some_tokens(9);
    text.insert(text.end(), plain.tokens.begin(), plain.tokens.end());
    Speculator speculator(std::make_unique<RandomDrafter>(std::vector<std::vector<int32_t>>{text}),
                          {.max_nodes = 12, .adaptive = false});
    options.speculator = &speculator;
    for (const int n : {-1, 0, 1, 2, 17}) {
      options.max_new_tok = n;
      std::vector<int32_t> said;
      options.on_token = [&](int32_t token) { said.push_back(token); };
      const GenerateResult drafted = generate(engine, seq, some_tokens(9), options);
      std::vector<int32_t> want = plain.tokens;
      if (n >= 0) want.resize(static_cast<size_t>(n));
      EXPECT_EQ(drafted.tokens, want);
      EXPECT_EQ(said, want);
      EXPECT_EQ(drafted.finish, n < 0 ? Finish::kContext : Finish::kLength);
    }
    EXPECT_GT(speculator.stats().n_accepted_tok, 20u);
    engine.close(seq);
  }
  EXPECT_EQ(engine.kv().n_free_blocks(), engine.kv().n_blocks());
}

}  // namespace
}  // namespace hob
