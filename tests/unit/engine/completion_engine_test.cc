// The serving core on a real (tiny) model, through the interface that HTTP uses.
#include "engine/completion_engine.h"

#include <gtest/gtest.h>

#include <future>
#include <random>
#include <thread>

#include "base/error.h"
#include "engine/generate.h"
#include "engine/score.h"
#include "unit/engine/serving_test_util.h"

namespace hob {
namespace {

using Tokens = std::vector<int32_t>;

// What the commands' loop answers.
Tokens generated(const Tokens& prompt, int n, const SamplingParams& sampling) {
  const auto session = load_session(serving_options());
  GenerateOptions options;
  options.sampling = sampling;
  options.max_new_tok = n;
  Engine& engine = session->engine();
  return generate(engine, engine.open(), prompt, options).tokens;
}

// Waits until the engine's own view says that nothing is left.
void expect_all_blocks_free(const CompletionEngine& engine) {
  for (int i = 0; i < 2000; i++) {
    const ServeStats s = engine.stats();
    if (s.n_running == 0 && s.n_waiting == 0 && s.n_kv_blocks_used == 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const ServeStats s = engine.stats();
  EXPECT_EQ(s.n_running, 0);
  EXPECT_EQ(s.n_waiting, 0);
  EXPECT_EQ(s.n_kv_blocks_used, 0);
  EXPECT_TRUE(engine.idle());
}

TEST(CompletionEngine, OneRequestEqualsGenerate) {
  Server server;
  const CompletionRequest r = greedy_request("a", some_tokens(50), 20);
  const auto sink = server.run(r);
  EXPECT_EQ(sink->choices[0].tokens, generated(r.prompt, 20, r.sampling));
  EXPECT_EQ(sink->choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(sink->usage.n_prompt_tok, 50);
  EXPECT_EQ(sink->usage.n_completion_tok, 20);
  EXPECT_EQ(sink->prefill_done, (std::vector<int>{32, 50}));
  expect_all_blocks_free(*server.engine);
}

TEST(CompletionEngine, WhoHasAnAnswerFindsItInTheMeasurements) {
  Server server;
  const auto sink = std::make_shared<Recorder>();
  ServeStats seen;
  sink->at_end = [&] { seen = server.engine->stats(); };
  ASSERT_FALSE(server.engine->submit(greedy_request("a", some_tokens(5), 20), sink));
  sink->wait_end();
  EXPECT_EQ(seen.n_generated_tok, 20u);
  EXPECT_EQ(seen.n_finished[static_cast<size_t>(FinishReason::kLength)], 1u);
  EXPECT_EQ(seen.n_running, 0);
}

TEST(CompletionEngine, SampledAnswersEqualGenerateToo) {
  Server server;
  CompletionRequest r = greedy_request("a", some_tokens(20), 30);
  r.sampling = SamplingParams{.temperature = 1.3f, .seed = 77};
  EXPECT_EQ(server.run(r)->choices[0].tokens, generated(r.prompt, 30, r.sampling));
}

struct Load {
  const char* name;
  int n_ctx, max_seqs, chunk, kv_tok;
  bool preempts;
  bool streams = false;  // room for half of the experts
  KvReserve reserve = KvReserve::kNone;
  int n_answer = 25;
};

class Crowd : public testing::TestWithParam<Load> {};

// Eight requests, any order of arrival, a budget of few rows, a pool of few blocks: every answer is
// the one that the request gets alone.
TEST_P(Crowd, EveryAnswerIsAsAlone) {
  const Load& load = GetParam();
  std::vector<CompletionRequest> requests;
  std::vector<Tokens> alone;
  {
    Server server(serving_options(load.n_ctx));
    for (int i = 0; i < 8; i++) {
      CompletionRequest r =
          greedy_request("r" + std::to_string(i), some_tokens(5 + 9 * i, 11 * i), load.n_answer);
      if (i % 2) r.sampling = SamplingParams{.temperature = 1.f, .seed = static_cast<uint64_t>(i)};
      if (i % 3 == 0) r.sampling.repetition_penalty = 1.2f;
      alone.push_back(server.run(r)->choices[0].tokens);
      requests.push_back(std::move(r));
    }
  }
  SessionOptions options = serving_options(load.n_ctx, load.max_seqs);
  options.chunk = load.chunk;
  options.kv_tok = load.kv_tok;
  if (load.streams) options.expert_cache_bytes = plan_model(options).plan.experts_bytes / 2;
  Server server(options, {.max_seqs = load.max_seqs, .max_queue = 64, .kv_reserve = load.reserve});
  std::mt19937 random(7);
  uint64_t n_preemptions = 0;
  for (int round = 0; round < 4; round++) {
    std::vector<size_t> order = {0, 1, 2, 3, 4, 5, 6, 7};
    std::shuffle(order.begin(), order.end(), random);
    std::vector<std::shared_ptr<Recorder>> sinks(8);
    for (size_t i : order) {
      requests[i].cache_salt = std::to_string(round);  // no help from the round before
      sinks[i] = server.submit(requests[i]);
      if (round % 2) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    for (size_t i = 0; i < 8; i++) {
      sinks[i]->wait_end();
      EXPECT_EQ(sinks[i]->choices[0].tokens, alone[i]) << "request " << i << " round " << round;
      n_preemptions += static_cast<uint64_t>(sinks[i]->usage.n_preemptions);
    }
  }
  EXPECT_EQ(n_preemptions > 0, load.preempts);
  EXPECT_EQ(server.engine->stats().experts.bytes_read > 0, load.streams);
  const ServeStats stats = server.engine->stats();
  EXPECT_EQ(stats.n_preemptions, n_preemptions);
  EXPECT_GT(stats.n_kv_token_steps, 0u);
  EXPECT_GE(stats.n_kv_slot_steps, stats.n_kv_token_steps);
  expect_all_blocks_free(*server.engine);
}

INSTANTIATE_TEST_SUITE_P(
    Loads, Crowd,
    testing::Values(Load{"roomy", 128, 8, 32, 0, false}, Load{"few_rows", 128, 8, 16, 0, false},
                    Load{"few_seats", 128, 3, 16, 0, false},
                    Load{"few_blocks", 256, 8, 32, 256, true, false, KvReserve::kNone,
                         /*n_answer=*/150},
                    Load{"streaming", 128, 8, 32, 0, false, true},
                    Load{"reserve_max", 128, 8, 32, 160, false, false, KvReserve::kMax},
                    Load{"reserve_oracle", 128, 8, 32, 160, false, false, KvReserve::kOracle},
                    Load{"reserve_buddy", 128, 8, 32, 160, false, false, KvReserve::kOracleBuddy}),
    [](const auto& p) { return std::string(p.param.name); });

TEST(CompletionEngine, ChoicesEqualSingleRuns) {
  Server server;
  CompletionRequest r = greedy_request("n", some_tokens(37), 20);
  r.sampling = SamplingParams{.temperature = 1.2f, .seed = 5};
  r.n = 3;
  const auto sink = server.run(r);
  const auto session = load_session(serving_options());
  Engine& engine = session->engine();
  for (uint32_t choice = 0; choice < 3; choice++) {
    const int seq = engine.open();
    engine.feed(seq, r.prompt, 1);
    Tokens tokens;
    while (tokens.size() < 20) {
      int32_t next = -1;
      while (next < 0)
        engine.step([&](int, int position, std::span<const float> logits) {
          next = sample(logits, r.sampling, engine.tokens(seq), static_cast<uint32_t>(position) + 1,
                        choice);
        });
      tokens.push_back(next);
      engine.feed(seq, {&next, 1}, 1);
    }
    engine.close(seq);
    EXPECT_EQ(sink->choices[choice].tokens, tokens) << choice;
  }
  EXPECT_NE(sink->choices[0].tokens, sink->choices[1].tokens);
  EXPECT_EQ(sink->usage.n_prompt_tok, 37);
  EXPECT_EQ(sink->usage.n_completion_tok, 60);
  expect_all_blocks_free(*server.engine);
}

TEST(CompletionEngine, ChoicesInATinyPoolAreTheSame) {
  CompletionRequest r = greedy_request("n", some_tokens(37), 30);
  r.sampling = SamplingParams{.temperature = 1.2f, .seed = 5};
  r.n = 4;
  Server roomy;
  const auto expected = roomy.run(r);
  SessionOptions options = serving_options();
  options.kv_tok = 128;
  Server tiny(options);
  const auto sink = tiny.run(r);
  for (size_t i = 0; i < 4; i++) EXPECT_EQ(sink->choices[i].tokens, expected->choices[i].tokens);
  EXPECT_GT(sink->usage.n_preemptions, 0);
  expect_all_blocks_free(*tiny.engine);
}

TEST(CompletionEngine, CancelFreesTheBlocksAndSparesTheOthers) {
  Server server;
  const CompletionRequest victim = greedy_request("victim", some_tokens(30), -1);
  const CompletionRequest other = greedy_request("other", some_tokens(20, 9), 40);
  const auto expected = server.run(other)->choices[0].tokens;
  const auto goes_on = server.submit(other);
  const auto cancelled = server.submit(victim, [&](size_t n_tok) {
    if (n_tok != 3) return;
    server.engine->cancel("nobody");
    server.engine->cancel("victim");
  });
  cancelled->wait_end();
  EXPECT_EQ(cancelled->choices[0].finish, FinishReason::kCancelled);
  EXPECT_FALSE(cancelled->error);
  EXPECT_EQ(cancelled->choices[0].tokens.size(), 3u);  // not one step more
  goes_on->wait_end();
  EXPECT_EQ(goes_on->choices[0].tokens, expected);
  expect_all_blocks_free(*server.engine);
}

TEST(CompletionEngine, DestructorCancels) {
  auto server = std::make_unique<Server>();
  std::promise<void> started, all_sent;
  std::vector<std::shared_ptr<Recorder>> sinks;
  sinks.push_back(
      server->submit(greedy_request("0", some_tokens(30), -1), [&, first = true](size_t) mutable {
        if (!std::exchange(first, false)) return;
        started.set_value();
        all_sent.get_future().wait();
      }));
  started.get_future().wait();
  for (int i = 1; i < 20; i++)
    sinks.push_back(server->submit(greedy_request(std::to_string(i), some_tokens(30, i), -1)));
  std::thread release([&] {  // the destructor has begun by then, or all but begun
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    all_sent.set_value();
  });
  server->engine.reset();
  release.join();
  int n_cancelled = 0;
  for (const auto& s : sinks) {
    s->wait_end();
    n_cancelled += s->choices[0].finish == FinishReason::kCancelled;
  }
  EXPECT_GT(n_cancelled, 0);
}

TEST(CompletionEngine, DrainFinishesWhatIsThere) {
  Server server;
  const auto sink = server.submit(greedy_request("a", some_tokens(30), 20));
  server.engine->drain();
  const auto refused =
      server.engine->submit(greedy_request("b", some_tokens(3), 1), std::make_shared<Recorder>());
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->why, Refusal::kDraining);
  sink->wait_end();
  EXPECT_EQ(sink->choices[0].tokens.size(), 20u);
  expect_all_blocks_free(*server.engine);
}

TEST(CompletionEngine, PrefixHitGivesTheSameTokens) {
  Server server;
  const CompletionRequest first = greedy_request("a", some_tokens(60), 10);
  const auto a = server.run(first);
  EXPECT_EQ(a->usage.n_cached_tok, 0);
  const auto b = server.run(first);
  EXPECT_EQ(b->usage.n_cached_tok, 48);
  EXPECT_EQ(b->choices[0].tokens, a->choices[0].tokens);
  CompletionRequest longer = first;  // the next turn of a conversation
  longer.prompt.insert(longer.prompt.end(), a->choices[0].tokens.begin(),
                       a->choices[0].tokens.end());
  const auto c = server.run(longer);
  EXPECT_GE(c->usage.n_cached_tok, 64);
  Server fresh;
  EXPECT_EQ(c->choices[0].tokens, fresh.run(longer)->choices[0].tokens);
  CompletionRequest salted = first;
  salted.cache_salt = "mine";
  const auto d = server.run(salted);
  EXPECT_EQ(d->usage.n_cached_tok, 0);
  EXPECT_EQ(d->choices[0].tokens, a->choices[0].tokens);
  EXPECT_EQ(server.engine->stats().n_cached_tok, static_cast<uint64_t>(48 + c->usage.n_cached_tok));
}

TEST(CompletionEngine, LogprobsAreOfTheRawDistribution) {
  Server server;
  CompletionRequest r = greedy_request("a", some_tokens(10), 8);
  r.n_logprobs = 5;
  r.sampling = SamplingParams{.temperature = 0.5f, .repetition_penalty = 1.5f, .seed = 3};
  r.logit_bias = {{7, 3.f}};
  const auto sink = server.run(r);
  const auto& choice = sink->choices[0];
  ASSERT_EQ(choice.logprobs.size(), choice.tokens.size());
  const auto session = load_session(serving_options());
  Engine& engine = session->engine();
  const int seq = engine.open();
  Tokens tokens = r.prompt;
  tokens.insert(tokens.end(), choice.tokens.begin(), choice.tokens.end());
  engine.feed(seq, tokens, static_cast<int>(choice.tokens.size()) + 1);
  int n_seen = 0;
  const auto check = [&](int, int position, std::span<const float> logits) {
    const size_t i = static_cast<size_t>(position) + 1 - r.prompt.size();
    if (i >= choice.tokens.size()) return;
    n_seen++;
    const TokenLogprob& l = choice.logprobs[i];
    EXPECT_EQ(l.token, choice.tokens[i]);
    EXPECT_NEAR(l.logprob, log_prob(logits, l.token), 1e-5);
    int rank = 1;
    for (float x : logits) rank += x > logits[static_cast<size_t>(l.token)];
    EXPECT_EQ(l.rank, rank);
    ASSERT_EQ(l.top.size(), 5u);
    EXPECT_EQ(l.top[0].first, arg_max(logits));
    for (size_t k = 0; k < 5; k++) {
      EXPECT_NEAR(l.top[k].second, log_prob(logits, l.top[k].first), 1e-5);
      if (k) {
        EXPECT_LE(l.top[k].second, l.top[k - 1].second);
      }
    }
  };
  while (engine.step(check)) {
  }
  EXPECT_EQ(n_seen, 8);
}

// A chunk of few rows and fewer rows of logits: they come piece by piece.
TEST(CompletionEngine, PromptLogprobs) {
  SessionOptions options = serving_options();
  options.max_logit_rows = 8;
  Server server(options);
  CompletionRequest r = greedy_request("a", some_tokens(45), 3);
  r.n_prompt_logprobs = 2;
  server.run(greedy_request("warm", r.prompt, 1));  // a prefix hit would hide the logits
  const auto neighbour = server.submit(greedy_request("b", some_tokens(20, 3), 60));
  const auto sink = server.run(r);
  neighbour->wait_end();
  ASSERT_EQ(sink->prompt_logprobs.size(), 45u);
  EXPECT_EQ(sink->prompt_logprobs[0].token, r.prompt[0]);
  EXPECT_EQ(sink->prompt_logprobs[0].rank, 0);
  EXPECT_TRUE(sink->prompt_logprobs[0].top.empty());
  SessionOptions all = serving_options();
  all.max_logit_rows = 32;
  const auto session = load_session(all);
  Engine& engine = session->engine();
  engine.feed(engine.open(), r.prompt, 45);
  const auto check = [&](int, int position, std::span<const float> logits) {
    if (position == 44) return;
    const TokenLogprob& l = sink->prompt_logprobs[static_cast<size_t>(position) + 1];
    EXPECT_EQ(l.token, r.prompt[static_cast<size_t>(position) + 1]);
    EXPECT_NEAR(l.logprob, log_prob(logits, l.token), 1e-5);
    EXPECT_EQ(l.top.size(), 2u);
  };
  while (engine.step(check)) {
  }
  CompletionRequest only = r;  // what evaluation harnesses ask for
  only.max_tok = 0;
  const auto none = server.run(only);
  EXPECT_EQ(none->prompt_logprobs.size(), 45u);
  EXPECT_TRUE(none->choices[0].tokens.empty());
  EXPECT_EQ(none->choices[0].finish, FinishReason::kLength);
}

TEST(CompletionEngine, StopStrings) {
  Server server;
  CompletionRequest r = greedy_request("a", some_tokens(12), 40);
  r.sampling = SamplingParams{.temperature = 2.f, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 8};
  const std::string whole = server.run(r)->choices[0].text;
  ASSERT_GT(whole.size(), 30u);
  size_t begin = whole.size() / 2;  // of a character
  while ((static_cast<unsigned char>(whole[begin]) & 0xC0) == 0x80) begin++;
  size_t end = begin + 6;
  while ((static_cast<unsigned char>(whole[end]) & 0xC0) == 0x80) end++;
  const std::string stop = whole.substr(begin, end - begin);
  const size_t first = whole.find(stop);
  r.stop = {"not there", stop};
  const auto before = server.run(r);
  EXPECT_EQ(before->choices[0].text, whole.substr(0, first));
  EXPECT_EQ(before->choices[0].finish, FinishReason::kStop);
  EXPECT_LT(before->choices[0].tokens.size(), 40u);
  r.include_stop = true;
  EXPECT_EQ(server.run(r)->choices[0].text, whole.substr(0, first + stop.size()));
  r.min_tok = 40;
  const auto late = server.run(r);
  EXPECT_EQ(late->choices[0].text, whole);
  EXPECT_EQ(late->choices[0].finish, FinishReason::kLength);
}

TEST(CompletionEngine, StopTokensAndMinTok) {
  Server server;
  CompletionRequest r = greedy_request("a", some_tokens(12), 20);
  r.n_logprobs = 0;
  const auto free_run = server.run(r)->choices[0];
  const int32_t stop = free_run.tokens[5];
  const auto at = std::find(free_run.tokens.begin(), free_run.tokens.end(), stop);
  r.stop_token_ids = {stop};
  const auto stopped = server.run(r)->choices[0];
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  EXPECT_EQ(stopped.tokens, Tokens(free_run.tokens.begin(), at + 1));  // the stop token is the last
  EXPECT_EQ(stopped.logprobs.size(), stopped.tokens.size());
  EXPECT_TRUE(free_run.text.starts_with(stopped.text));
  r.min_tok = 15;
  const auto later = server.run(r)->choices[0];
  EXPECT_GE(later.tokens.size(), 15u);
  for (size_t i = 0; i < 15; i++) EXPECT_NE(later.tokens[i], stop) << i;
  // The model's own end token, forced by a bias.
  const int32_t eos = server.tokenizer->eos();
  CompletionRequest e = greedy_request("e", some_tokens(12), 20);
  e.logit_bias = {{eos, 100.f}};
  EXPECT_EQ(server.run(e)->choices[0].tokens, Tokens(20, eos));
  e.ignore_eos = false;
  const auto ended = server.run(e)->choices[0];
  EXPECT_EQ(ended.tokens, Tokens{eos});
  EXPECT_EQ(ended.text, "");
  EXPECT_EQ(ended.finish, FinishReason::kStop);
  e.min_tok = 3;
  const auto fourth = server.run(e)->choices[0];
  ASSERT_EQ(fourth.tokens.size(), 4u);
  EXPECT_EQ(std::count(fourth.tokens.begin(), fourth.tokens.end(), eos), 1);
}

TEST(CompletionEngine, TooLongIsRefusedWithTheNumbers) {
  SessionOptions options = serving_options(128);
  options.kv_tok = 64;
  Server server(options);
  EXPECT_EQ(server.engine->max_model_len(), 64);
  const auto refused =
      server.engine->submit(greedy_request("a", some_tokens(64), -1), std::make_shared<Recorder>());
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->why, Refusal::kTooLong);
  EXPECT_NE(refused->message.find("64"), std::string::npos) << refused->message;
  EXPECT_NE(refused->message.find("128"), std::string::npos) << refused->message;
  EXPECT_TRUE(server.engine->idle());
  const auto fits = server.run(greedy_request("a", some_tokens(63), -1));
  EXPECT_EQ(fits->choices[0].tokens.size(), 1u);
  EXPECT_EQ(fits->choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(server.run(greedy_request("b", some_tokens(10), -1))->choices[0].tokens.size(), 54u);
  EXPECT_EQ(server.run(greedy_request("c", some_tokens(10), 1000))->choices[0].tokens.size(), 54u);
}

TEST(CompletionEngine, FullQueueIsRefused) {
  Server server(serving_options(), {.max_seqs = 2, .max_queue = 3});
  std::vector<std::shared_ptr<Recorder>> sinks;
  std::optional<Refused> refused;
  std::promise<void> all_sent;
  for (int i = 0; i < 6 && !refused; i++) {
    auto sink = std::make_shared<Recorder>();
    if (i == 0)  // it cannot end before
      sink->after_delta = [&, first = true](size_t) mutable {
        if (std::exchange(first, false)) all_sent.get_future().wait();
      };
    refused =
        server.engine->submit(greedy_request(std::to_string(i), some_tokens(30, i), -1), sink);
    if (!refused) sinks.push_back(sink);
  }
  all_sent.set_value();
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->why, Refusal::kQueueFull);
  EXPECT_GT(refused->retry_after_s, 0);
  EXPECT_EQ(sinks.size(), 5u);  // two run, three wait
  for (const auto& s : sinks) s->wait_end();
  EXPECT_FALSE(
      server.engine->submit(greedy_request("x", some_tokens(3), 1), std::make_shared<Recorder>()));
}

TEST(CompletionEngine, InvalidParametersAreNamed) {
  Server server;
  const auto message = [&](auto change) {
    CompletionRequest r = greedy_request("a", some_tokens(5), 3);
    change(r);
    const auto refused = server.engine->submit(r, std::make_shared<Recorder>(9));
    EXPECT_TRUE(refused);
    if (!refused) return std::string();
    EXPECT_EQ(refused->why, Refusal::kInvalid);
    return refused->message;
  };
  using R = CompletionRequest;
  const auto has = [](const std::string& text, const char* word) {
    EXPECT_NE(text.find(word), std::string::npos) << text;
  };
  has(message([](R& r) { r.prompt.clear(); }), "prompt");
  has(message([](R& r) { r.prompt[2] = 320; }), "prompt");
  has(message([](R& r) { r.n = 0; }), "[n]");
  has(message([](R& r) { r.n = 9; }), "[n]");
  has(message([](R& r) { r.max_tok = -2; }), "max_tokens");
  has(message([](R& r) { r.min_tok = 4; }), "min_tokens");
  has(message([](R& r) { r.min_tok = -1; }), "min_tokens");
  has(message([](R& r) { r.sampling.top_p = 0; }), "top_p");
  has(message([](R& r) { r.sampling.temperature = NAN; }), "temperature");
  has(message([](R& r) { r.n_logprobs = -2; }), "logprobs");
  has(message([](R& r) { r.n_prompt_logprobs = 321; }), "prompt_logprobs");
  has(message([](R& r) { r.stop = {""}; }), "stop");
  has(message([](R& r) { r.stop = {"\xff"}; }), "stop");
  has(message([](R& r) { r.stop_token_ids = {-1}; }), "stop_token_ids");
  has(message([](R& r) { r.logit_bias = {{320, 1.f}}; }), "logit_bias");
  has(message([](R& r) { r.logit_bias = {{3, NAN}}; }), "logit_bias");
  has(message([](R& r) { r.logit_bias = {{3, 3e38f}}; }), "logit_bias");
  const auto running = server.submit(greedy_request("a", some_tokens(5), -1));
  has(message([](R&) {}), "[id]");
  running->wait_end();
}

TEST(CompletionEngine, DeadlineEndsWaitingAndRunning) {
  Server server(serving_options(), {.max_seqs = 1, .max_queue = 8});
  CompletionRequest r = greedy_request("late", some_tokens(20), -1);
  r.deadline = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  const auto late = server.run(r);
  EXPECT_EQ(late->choices[0].finish, FinishReason::kDeadline);
  EXPECT_TRUE(late->choices[0].tokens.empty());
  const auto good = server.run(greedy_request("good", some_tokens(20), 5));
  EXPECT_EQ(good->choices[0].finish, FinishReason::kLength);
  expect_all_blocks_free(*server.engine);
  EXPECT_EQ(server.engine->stats().n_finished[static_cast<size_t>(FinishReason::kDeadline)], 1u);
}

// Random requests with cancels in a small pool: nothing leaks, everything ends, statistics can be
// read all the while.
TEST(CompletionEngine, Soak) {
  SessionOptions options = serving_options(128, 6);
  options.kv_tok = 256;
  options.chunk = 16;
  Server server(options, {.max_seqs = 6, .max_queue = 40});
  std::mt19937 random(3);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  std::vector<std::shared_ptr<Recorder>> sinks;
  std::atomic<bool> stop = false;
  std::thread reader([&] {
    while (!stop) {
      const ServeStats s = server.engine->stats();
      EXPECT_LE(s.n_kv_blocks_used, s.n_kv_blocks);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  int n_full = 0;
  for (int i = 0; i < 2000; i++) {
    CompletionRequest r = greedy_request(std::to_string(i), some_tokens(1 + below(40), below(5)),
                                         below(10) ? below(12) : 90);
    r.n = below(8) == 0 ? 1 + below(4) : 1;
    r.priority = below(3);
    r.tenant = std::to_string(below(4));
    r.sampling.temperature = below(2) ? 1.f : 0.f;
    r.sampling.seed = random();
    if (below(10) == 0) r.stop = {"a", "e "};
    if (below(10) == 0) r.n_logprobs = 2;
    if (below(20) == 0) r.n_prompt_logprobs = 1;
    if (below(20) == 0)
      r.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(below(20));
    auto sink = std::make_shared<Recorder>(r.n);
    while (const auto refused = server.engine->submit(r, sink)) {
      ASSERT_EQ(refused->why, Refusal::kQueueFull) << refused->message;
      n_full++;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    sinks.push_back(sink);
    if (below(5) == 0) server.engine->cancel(std::to_string(below(i + 1)));
    if (below(3) == 0) server.engine->cancel(std::to_string(i));
  }
  server.engine->drain();
  for (const auto& s : sinks) s->wait_end();
  stop = true;
  reader.join();
  EXPECT_GT(n_full, 0);
  int n_error = 0;
  for (const auto& s : sinks) n_error += s->error != nullptr;
  EXPECT_EQ(n_error, 0);
  expect_all_blocks_free(*server.engine);
  const ServeStats s = server.engine->stats();
  EXPECT_GT(s.n_preemptions, 0u);
  EXPECT_GT(s.n_finished[static_cast<size_t>(FinishReason::kCancelled)], 0u);
}

}  // namespace
}  // namespace hob
