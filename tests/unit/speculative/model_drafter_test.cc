#include "speculative/model_drafter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "engine/model_session.h"
#include "sampling/draft_candidates.h"

namespace hob {
namespace {

using Tokens = std::vector<int32_t>;

std::unique_ptr<ModelSession> load(const char* model = "olmoe.gguf", int kv_tok = 0) {
  SessionOptions options;
  options.path = std::string(HOB_TEST_DATA) + "/model/" + model;
  options.n_threads = 2;
  options.n_ctx = 96;
  options.n_seqs = 4;
  options.chunk = 32;
  options.max_logit_rows = 16;
  options.kv_tok = kv_tok;
  return ModelSession::load(plan_model(options), {});
}

DraftJob job_of(DraftState& state, const Tokens& tokens, int max_nodes = 12, int max_depth = 5) {
  return {.state = &state,
          .tokens = tokens,
          .max_nodes = max_nodes,
          .max_depth = max_depth,
          .tree = {}};
}

void expect_same(const DraftTree& a, const DraftTree& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.parents, b.parents);
  EXPECT_EQ(a.confidence, b.confidence);
}

TEST(DraftCandidates, GreedyOnesAreTheLikeliestTokens) {
  std::vector<DraftCandidate> c;
  draft_candidates(std::vector<float>{0.f, 3.f, 1.f, 2.f, -INFINITY}, {.temperature = 0}, 7, 0, 3,
                   c);
  ASSERT_EQ(c.size(), 3u);
  EXPECT_EQ(c[0].token, 1);
  EXPECT_EQ(c[1].token, 3);
  EXPECT_EQ(c[2].token, 2);
  EXPECT_NEAR(c[0].probability, 0.6439, 1e-3);
  draft_candidates(std::vector<float>{0.f, NAN}, {}, 0, 0, 3, c);
  EXPECT_TRUE(c.empty());
}

// With the target's noise and the target's own logits the first candidate is what it samples.
TEST(DraftCandidates, CoupledOnesFollowTheTargetsNoise) {
  std::mt19937 rng(2);
  std::normal_distribution<float> normal;
  std::vector<DraftCandidate> c;
  for (uint32_t position = 0; position < 200; position++) {
    std::vector<float> logits(50);
    for (float& x : logits) x = 2 * normal(rng);
    const SamplingParams params{.temperature = 0.8f, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 9};
    draft_candidates(logits, params, position, 3, 2, c);
    EXPECT_EQ(c[0].token, sample(logits, params, {}, position, 3));
    EXPECT_GE(c[0].probability, c[1].probability);
  }
}

class ModelDrafterTest : public testing::Test {
 protected:
  int pick(int n) { return static_cast<int>(rng_() % static_cast<unsigned>(n)); }
  Tokens some(int n) {
    Tokens t;
    for (int i = 0; i < n; i++) t.push_back(pick(300));
    return t;
  }
  std::mt19937 rng_{8};
};

// What a tree says: each way through it, and how likely its last node is.
std::map<Tokens, float> ways(const DraftTree& tree) {
  std::map<Tokens, float> out;
  std::vector<Tokens> way(tree.tokens.size());
  for (size_t i = 0; i < way.size(); i++) {
    const int32_t parent = tree.parents[i];
    if (parent != DraftTree::kRoot) way[i] = way[static_cast<size_t>(parent)];
    way[i].push_back(tree.tokens[i]);
    out[way[i]] = tree.confidence[i];
  }
  return out;
}

double expected_tokens(const DraftTree& tree) {
  std::vector<double> value(tree.tokens.size());
  double sum = 0;
  for (size_t i = 0; i < value.size(); i++) {
    const int32_t parent = tree.parents[i];
    value[i] =
        tree.confidence[i] * (parent == DraftTree::kRoot ? 1 : value[static_cast<size_t>(parent)]);
    sum += value[i];
  }
  return sum;
}

// Whatever happened before (guesses that came true, others, answers taken back, looks ahead), a
// drafter says of every way what one says that sees the text for the first time: no row of its KV
// cache is missing or stale. It may know more ways, never worse ones.
TEST_F(ModelDrafterTest, HistoryLeavesNoTrace) {
  const auto session = load(), fresh_session = load();
  const auto drafter = make_model_drafter(session->engine(), {});
  const auto fresh = make_model_drafter(fresh_session->engine(), {});
  for (const float temperature : {0.f, 1.f}) {
    const SamplingParams sampling{.temperature = temperature, .seed = 4};
    const auto state = drafter->open(sampling, 0);
    size_t n_guesses = 0;
    Tokens text = some(10);
    for (int round = 0; round < 25; round++) {
      DraftJob job = job_of(*state, text);
      drafter->draft({&job, 1});
      const auto new_state = fresh->open(sampling, 0);
      DraftJob want = job_of(*new_state, text);
      fresh->draft({&want, 1});
      const std::map<Tokens, float> said = ways(job.tree), wanted = ways(want.tree);
      size_t n_common = 0;
      for (const auto& [way, confidence] : said) {
        const auto it = wanted.find(way);
        if (it == wanted.end()) continue;
        n_common++;
        EXPECT_EQ(it->second, confidence);
      }
      ASSERT_GT(job.tree.size(), 4);
      EXPECT_GE(n_common * 2, said.size());
      EXPECT_GE(expected_tokens(job.tree), expected_tokens(want.tree) - 1e-6);
      for (int i = pick(4); i > 0; i--) drafter->look_ahead({&job, 1});
      const std::vector<OutcomeGuess> guesses =
          drafter->guess_outcomes(*state, text, job.tree, 8, 12);
      n_guesses += guesses.size();
      // Part of a branch comes true, then something else.
      int32_t at = DraftTree::kRoot;
      for (int i = pick(5); i > 0; i--) {
        std::vector<int32_t> children;
        for (int32_t n = 0; n < job.tree.size(); n++)
          if (job.tree.parents[static_cast<size_t>(n)] == at) children.push_back(n);
        if (children.empty()) break;
        at = children[static_cast<size_t>(pick(static_cast<int>(children.size())))];
        text.push_back(job.tree.tokens[static_cast<size_t>(at)]);
      }
      // The end of the round: anything, or as guessed.
      const auto fits = [&](const OutcomeGuess& g) { return g.node == at; };
      const auto guess = std::find_if(guesses.begin(), guesses.end(), fits);
      text.push_back(guess == guesses.end() ? pick(300) : guess->bonus);
      if (round % 7 == 6) text.resize(text.size() - 3);
      if (text.size() > 80) text.resize(12);
    }
    EXPECT_GT(n_guesses, 10u);
  }
}

TEST_F(ModelDrafterTest, JobsTogetherSayWhatTheySayAlone) {
  const auto session = load(), other = load();
  const auto drafter = make_model_drafter(session->engine(), {});
  const auto alone = make_model_drafter(other->engine(), {});
  std::vector<std::unique_ptr<DraftState>> states;
  std::vector<Tokens> texts;
  std::vector<DraftJob> jobs;
  for (int i = 0; i < 6; i++) {  // four fit into a step
    states.push_back(drafter->open({.temperature = 0}, 0));
    texts.push_back(some(5 + 9 * i));
  }
  for (int i = 0; i < 6; i++)
    jobs.push_back(
        job_of(*states[static_cast<size_t>(i)], texts[static_cast<size_t>(i)], 4 + i, 1 + i % 3));
  drafter->draft(jobs);
  for (int i = 0; i < 6; i++) {
    const auto state = alone->open({.temperature = 0}, 0);
    DraftJob job = job_of(*state, texts[static_cast<size_t>(i)], 4 + i, 1 + i % 3);
    alone->draft({&job, 1});
    expect_same(jobs[static_cast<size_t>(i)].tree, job.tree);
    EXPECT_LE(job.tree.size(), 4 + i);
    EXPECT_LE(tree_depth(job.tree), 1 + i % 3);
    EXPECT_GE(tree_depth(job.tree), 1);
  }
}

TEST_F(ModelDrafterTest, WithoutRoomItSaysNothingAndRecovers) {
  const auto session = load("olmoe.gguf", 48);
  const auto drafter = make_model_drafter(session->engine(), {});
  {
    const auto a = drafter->open({.temperature = 0}, 0), b = drafter->open({.temperature = 0}, 0);
    Tokens x = some(30), y = some(30), beyond = some(96);
    DraftJob jobs[] = {job_of(*a, x), job_of(*b, y)};
    drafter->draft(jobs);
    EXPECT_GT(jobs[0].tree.size(), 0);
    EXPECT_EQ(jobs[1].tree.size(), 0);
    DraftJob job = job_of(*a, beyond);
    drafter->draft({&job, 1});
    EXPECT_EQ(job.tree.size(), 0);
  }
  const auto c = drafter->open({.temperature = 0}, 0);
  const Tokens z = some(20);
  DraftJob job = job_of(*c, z);
  drafter->draft({&job, 1});
  EXPECT_GT(job.tree.size(), 0);
}

}  // namespace
}  // namespace hob
