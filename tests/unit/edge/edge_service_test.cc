// An edge's answers are the server's own, token for token: whatever is drafted, however the link
// behaves, whoever answers after it broke.
#include "edge/edge_service.h"

#include <gtest/gtest.h>

#include "speculative/model_drafter.h"
#include "speculative/ngram_drafter.h"
#include "unit/edge/edge_world_util.h"
#include "unit/engine/random_drafter_util.h"

namespace hob::edge {
namespace {

SessionOptions session_options() {
  SessionOptions o = serving_options();
  o.max_logit_rows = 64;
  return o;
}

std::vector<CompletionRequest> requests() {
  std::vector<CompletionRequest> all;
  for (int i = 0; i < 6; i++) {
    CompletionRequest r =
        greedy_request("r" + std::to_string(i), some_tokens(5 + 6 * i, 1 + i), 30 + i);
    if (i % 2) r.sampling = {.temperature = 1.2f, .seed = static_cast<uint64_t>(i)};
    if (i == 2) r.n = 3;
    if (i == 3) r.sampling.repetition_penalty = 1.3f;
    if (i == 3) r.logit_bias = {{7, 2.5f}, {9, -3.f}};
    if (i == 5) r.ignore_eos = false;
    if (i == 5) r.min_tok = 10;
    if (i == 5)
      for (int t = 0; t < 320; t += 3) r.stop_token_ids.push_back(t);
    all.push_back(std::move(r));
  }
  all[2].sampling = {.temperature = 0.9f, .seed = 3};
  return all;
}

using Texts = std::vector<std::vector<int32_t>>;

// Prompt and answer of each choice.
void collect(const CompletionRequest& r, const Recorder& sink, Texts& out) {
  for (const Recorder::Choice& c : sink.choices) {
    out.push_back(r.prompt);
    out.back().insert(out.back().end(), c.tokens.begin(), c.tokens.end());
  }
}

const Texts& plain_texts() {
  static const Texts texts = [] {
    Texts out;
    Server server(session_options());
    for (const CompletionRequest& r : requests()) collect(r, *server.run(r), out);
    return out;
  }();
  return texts;
}

struct Ran {
  Texts texts;
  EdgeStats stats;
  int n_faults = 0;
};

Ran run_edge(TestServer& server, std::unique_ptr<Drafter> drafter, const Chaos& chaos,
             bool adaptive = false, const std::function<void(EdgeLoopOptions&)>& change = {}) {
  ChaosNet net(server, chaos);
  Speculator speculator(std::move(drafter), {.max_nodes = 12, .adaptive = adaptive});
  Ran ran;
  std::vector<std::shared_ptr<Recorder>> sinks;
  {
    EdgeLoopOptions options = test_loop_options(*server.core().tokenizer, chaos.seed);
    if (change) change(options);
    EdgeService edge(net, speculator, *server.core().tokenizer, options);
    for (const CompletionRequest& r : requests()) {
      sinks.push_back(std::make_shared<Recorder>(r.n));
      const auto refused = edge.submit(r, sinks.back());
      EXPECT_FALSE(refused) << refused->message;
    }
    for (const auto& sink : sinks) sink->wait_end();
    while (!edge.idle()) std::this_thread::yield();
    ran.stats = edge.edge_stats();
  }
  const std::vector<CompletionRequest> asked = requests();
  for (size_t i = 0; i < asked.size(); i++) {
    if (sinks[i]->error) {
      try {
        std::rethrow_exception(sinks[i]->error);
      } catch (const std::exception& e) {
        ADD_FAILURE() << asked[i].id << ": " << e.what();
      }
    }
    collect(asked[i], *sinks[i], ran.texts);
  }
  ran.n_faults = net.n_faults();
  return ran;
}

TEST(EdgeService, NgramDraftsGiveTheServersAnswers) {
  TestServer server(session_options());
  const Ran ran = run_edge(server, make_ngram_drafter(), {});
  EXPECT_EQ(ran.texts, plain_texts());
  EXPECT_EQ(ran.stats.links.n_resumes, 0u);
}

TEST(EdgeService, GoodDraftsSaveRounds) {
  TestServer server(session_options());
  const Ran ran = run_edge(server, std::make_unique<RandomDrafter>(plain_texts()), {});
  EXPECT_EQ(ran.texts, plain_texts());
  EXPECT_GT(ran.stats.links.n_accepted, ran.stats.n_generated_tok / 4);
  EXPECT_LT(ran.stats.links.n_rounds, ran.stats.n_generated_tok);
}

// The target drafts for itself, so nearly all that it guesses comes true.
struct ModelDrafting {
  ModelDrafting() : session(load_session(drafting_options())) {}
  static SessionOptions drafting_options() {
    SessionOptions o = serving_options();
    o.max_logit_rows = 64;
    return o;
  }
  std::unique_ptr<Drafter> drafter() { return make_model_drafter(session->engine(), {}); }
  std::unique_ptr<ModelSession> session;
};

TEST(EdgeService, AModelsDraftsAndGuessesGiveTheServersAnswers) {
  TestServer server(session_options());
  ModelDrafting model;
  const Ran ran = run_edge(server, model.drafter(), {});
  EXPECT_EQ(ran.texts, plain_texts());
  EXPECT_LT(ran.stats.links.n_rounds * 2, ran.stats.n_generated_tok);
}

TEST(EdgeService, TheGovernorsChoiceChangesNoToken) {
  TestServer server(session_options());
  ModelDrafting model;
  EXPECT_EQ(run_edge(server, model.drafter(), {}, true).texts, plain_texts());
  EXPECT_EQ(run_edge(server, make_ngram_drafter(), {}, true).texts, plain_texts());
}

ModelDrafting& shared_model() {
  static ModelDrafting model;
  return model;
}

std::unique_ptr<Drafter> drafter_of(int schedule) {
  switch (schedule % 3) {
    case 0:
      return std::make_unique<RandomDrafter>(plain_texts());
    case 1:
      return shared_model().drafter();
    default:
      return make_ngram_drafter();
  }
}

// More requests than may run together wait for their turn; a cancel reaches them there.
TEST(EdgeService, WhatFindsNoPlaceWaits) {
  TestServer server(session_options());
  ChaosNet net(server, {});
  Speculator speculator(make_ngram_drafter(), {.max_nodes = 12});
  EdgeLoopOptions options = test_loop_options(*server.core().tokenizer, 4);
  options.max_generations = 2;
  options.max_waiting = 20;
  EdgeService edge(net, speculator, *server.core().tokenizer, options);
  std::vector<std::shared_ptr<Recorder>> sinks;
  for (int i = 0; i < 12; i++) {
    sinks.push_back(std::make_shared<Recorder>());
    ASSERT_FALSE(
        edge.submit(greedy_request("q" + std::to_string(i), some_tokens(6), 30), sinks.back()));
  }
  edge.cancel("q11");
  for (const auto& sink : sinks) sink->wait_end();
  EXPECT_EQ(sinks[11]->choices[0].finish, FinishReason::kCancelled);
  for (int i = 0; i < 11; i++)
    EXPECT_EQ(sinks[static_cast<size_t>(i)]->choices[0].tokens, sinks[0]->choices[0].tokens);
  int n_refused = 0;
  for (int i = 0; i < 40; i++)
    n_refused += edge.submit(greedy_request("f" + std::to_string(i), some_tokens(6), 100),
                             std::make_shared<Recorder>())
                     .has_value();
  EXPECT_GT(n_refused, 0);
}

// Private noise: the answers' distribution is that of plain sampling, with drafts as without. The
// third token of each answer, in bins of the vocabulary; both sides have seeds of their own.
TEST(EdgeService, PrivateNoiseHasTheTargetsDistribution) {
  constexpr int kAnswers = 400, kBins = 8;
  CompletionRequest r = greedy_request("", some_tokens(6), 4);
  r.sampling = {.temperature = 0.8f};
  const auto add = [](std::vector<double>& bins, const Recorder& sink) {
    bins[static_cast<size_t>(sink.choices[0].tokens.at(2) * kBins / 320)]++;
  };
  std::vector<double> plain(kBins), drafted(kBins);
  TestServer server(session_options());
  for (int i = 0; i < kAnswers; i++) {
    r.id = "p" + std::to_string(i);
    r.sampling.seed = static_cast<uint64_t>(1000 + i);
    add(plain, *server.core().run(r));
  }
  ChaosNet net(server, {});
  Speculator speculator(std::make_unique<RandomDrafter>(plain_texts()),
                        {.max_nodes = 12, .adaptive = false});
  EdgeLoopOptions options = test_loop_options(*server.core().tokenizer, 9);
  options.private_noise = true;
  EdgeService edge(net, speculator, *server.core().tokenizer, options);
  r.sampling.seed = 5;  // the same for all: means nothing here
  for (int i = 0; i < kAnswers; i++) {
    r.id = "e" + std::to_string(i);
    const auto sink = std::make_shared<Recorder>(1);
    ASSERT_FALSE(edge.submit(r, sink));
    sink->wait_end();
    add(drafted, *sink);
  }
  double chi_square = 0;
  for (size_t b = 0; b < plain.size(); b++)
    if (plain[b] + drafted[b] > 0)
      chi_square += (plain[b] - drafted[b]) * (plain[b] - drafted[b]) / (plain[b] + drafted[b]);
  EXPECT_LT(chi_square, 24.3);  // seven degrees of freedom: one in a thousand
  EXPECT_GT(*std::max_element(drafted.begin(), drafted.end()), 0);
  EXPECT_LT(*std::max_element(drafted.begin(), drafted.end()), kAnswers);  // not all the same
}

TEST(EdgeService, TheServerMayWriteAlone) {
  TestServer server(session_options());
  const auto streams = [](EdgeLoopOptions& o) { o.mode = EdgeMode::kStream; };
  const Ran ran = run_edge(server, make_ngram_drafter(), {}, false, streams);
  EXPECT_EQ(ran.texts, plain_texts());
  EXPECT_EQ(ran.stats.links.n_nodes, 0u);
  EXPECT_EQ(ran.stats.n_streamed_tok, ran.stats.n_generated_tok);
}

TEST(EdgeService, AServerMayRefuseToWriteAlone) {
  EdgeServerOptions refuses;
  refuses.may_stream = false;
  TestServer server(session_options(), refuses);
  const auto streams = [](EdgeLoopOptions& o) { o.mode = EdgeMode::kStream; };
  const Ran ran = run_edge(server, make_ngram_drafter(), {}, false, streams);
  EXPECT_EQ(ran.texts, plain_texts());
  EXPECT_GT(ran.stats.links.n_rounds, 0u);
}

// A server that is away, an edge whose draft model goes on without it.
struct Alone {
  explicit Alone(std::unique_ptr<Drafter> drafter, int64_t patience_us = 120'000'000)
      : server(session_options()), net(server, {}), speculator(std::move(drafter), {}) {
    EdgeLoopOptions o = test_loop_options(*server.core().tokenizer, 3);
    o.writes_alone = true;
    o.alone_after_us = 1'000;
    o.session.patience_us = patience_us;
    edge = std::make_unique<EdgeService>(net, speculator, *server.core().tokenizer, o);
  }
  std::shared_ptr<Recorder> submit(CompletionRequest r, bool shown) {
    r.wants_provisional = shown;
    auto sink = std::make_shared<Recorder>(r.n);
    sink->at_end = [this] { at_end = edge->edge_stats(); };
    EXPECT_FALSE(edge->submit(std::move(r), sink));
    return sink;
  }
  EdgeStats at_end;  // what the last sink to end found
  TestServer server;
  ChaosNet net;
  Speculator speculator;
  std::unique_ptr<EdgeService> edge;
};

// What is said without the server is shown to those who wish it, and becomes what the server says.
TEST(EdgeService, ProvisionalTextIsSettledWhenTheServerIsBack) {
  Alone alone(std::make_unique<RandomDrafter>(plain_texts()));
  alone.net.set_away(true);
  std::vector<std::shared_ptr<Recorder>> shown, hidden;
  for (const CompletionRequest& r : requests()) {
    shown.push_back(alone.submit(r, true));
    CompletionRequest again = r;
    again.id += "-hidden";
    hidden.push_back(alone.submit(again, false));
  }
  while (alone.edge->edge_stats().n_alone_tok < 300) std::this_thread::yield();
  alone.net.set_away(false);
  const std::vector<CompletionRequest> asked = requests();
  size_t n_shown = 0;
  int n_rewrites = 0;
  for (size_t i = 0; i < asked.size(); i++) {
    shown[i]->wait_end();
    hidden[i]->wait_end();
    const auto plain = alone.server.core().run(asked[i]);
    for (size_t c = 0; c < plain->choices.size(); c++) {
      EXPECT_EQ(shown[i]->choices[c].tokens, plain->choices[c].tokens);
      EXPECT_EQ(shown[i]->choices[c].text, plain->choices[c].text);
      EXPECT_EQ(hidden[i]->choices[c].text, plain->choices[c].text);
      EXPECT_EQ(hidden[i]->choices[c].n_provisional_bytes, 0u);
      EXPECT_EQ(hidden[i]->choices[c].n_rewrites, 0);
      n_shown += shown[i]->choices[c].n_provisional_bytes;
      n_rewrites += shown[i]->choices[c].n_rewrites;
    }
    EXPECT_EQ(shown[i]->usage.n_unverified_tok, 0);
  }
  EXPECT_GT(n_shown, 0u);
  EXPECT_GT(n_rewrites, 0);
}

// It does not come back: the answer is the draft model's, and says so.
TEST(EdgeService, WithoutAServerTheDraftModelAnswers) {
  ModelDrafting model;  // the target itself
  Alone alone(model.drafter(), 30'000);
  alone.net.set_away(true);
  const CompletionRequest r = requests()[0];
  uint64_t n_unverified = 0;
  for (const bool is_shown : {false, true, false}) {
    const auto sink = alone.submit(r, is_shown);
    sink->wait_end();
    n_unverified += static_cast<uint64_t>(r.max_tok);
    EXPECT_EQ(alone.at_end.n_unverified_tok, n_unverified);  // an answer is in the measurements
    EXPECT_EQ(alone.at_end.n_running, 0);
    EXPECT_FALSE(sink->error);
    const auto plain = alone.server.core().run(r);
    EXPECT_EQ(sink->choices[0].text, plain->choices[0].text);
    EXPECT_EQ(sink->choices[0].finish, FinishReason::kLength);
    EXPECT_EQ(sink->usage.n_unverified_tok, r.max_tok);
    EXPECT_EQ(sink->usage.n_completion_tok, r.max_tok);
    EXPECT_EQ(sink->choices[0].n_provisional_bytes, plain->choices[0].text.size());
  }
  alone.net.set_away(false);  // the next answer is verified again
  const auto sink = alone.submit(r, false);
  sink->wait_end();
  EXPECT_EQ(sink->usage.n_unverified_tok, 0);
  EXPECT_EQ(sink->choices[0].tokens, alone.server.core().run(r)->choices[0].tokens);
}

// N-grams say nothing by themselves: then the answer fails, as without.
TEST(EdgeService, WithoutAServerNgramsFail) {
  Alone alone(make_ngram_drafter(), 30'000);
  alone.net.set_away(true);
  const auto sink = alone.submit(requests()[0], true);
  sink->wait_end();
  EXPECT_TRUE(sink->error);
}

// Every frame and link of the schedule is drawn from the seed: cut links, links that swallow
// everything, frames that come twice or again much later, a server that has lost everything. A
// third of them draft all the time, a third when it pays, in a third the server writes alone; in
// half of them the draft model goes on without it.
class Schedule : public testing::TestWithParam<int> {};

TEST_P(Schedule, NothingIsLostRepeatedOrChanged) {
  std::mt19937_64 rng(static_cast<uint64_t>(GetParam()));
  const auto up_to = [&](double most) { return std::uniform_real_distribution<>(0, most)(rng); };
  const Chaos chaos{.cut = up_to(0.1),
                    .hole = up_to(0.02),
                    .restart = up_to(0.3),
                    .duplicate = up_to(0.1),
                    .stale = up_to(0.1),
                    .seed = rng()};
  TestServer server(session_options());
  const Ran ran = run_edge(server, drafter_of(GetParam()), chaos, false, [](EdgeLoopOptions& o) {
    constexpr EdgeMode kModes[] = {EdgeMode::kTree, EdgeMode::kMeasured, EdgeMode::kStream};
    o.mode = kModes[GetParam() / 3 % 3];
    o.writes_alone = GetParam() / 9 % 2 == 1;
    o.alone_after_us = 2'000;
  });
  EXPECT_EQ(ran.texts, plain_texts()) << ran.n_faults << " faults";
  RecordProperty("faults", ran.n_faults);
  RecordProperty("resumes", static_cast<int>(ran.stats.links.n_resumes));
}

INSTANTIATE_TEST_SUITE_P(Random, Schedule, testing::Range(0, 100));

}  // namespace
}  // namespace hob::edge
