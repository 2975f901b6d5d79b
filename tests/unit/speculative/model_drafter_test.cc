#include "speculative/model_drafter.h"

#include <gtest/gtest.h>

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

// Whatever happened before (guesses that came true, others, answers taken back), a drafter says
// what one says that sees the text for the first time: no row of its KV cache is missing or stale.
TEST_F(ModelDrafterTest, HistoryLeavesNoTrace) {
  const auto session = load(), fresh_session = load();
  const auto drafter = make_model_drafter(session->engine(), {});
  const auto fresh = make_model_drafter(fresh_session->engine(), {});
  for (const float temperature : {0.f, 1.f}) {
    const SamplingParams sampling{.temperature = temperature, .seed = 4};
    const auto state = drafter->open(sampling, 0);
    Tokens text = some(10);
    for (int round = 0; round < 25; round++) {
      DraftJob job = job_of(*state, text);
      drafter->draft({&job, 1});
      const auto new_state = fresh->open(sampling, 0);
      DraftJob want = job_of(*new_state, text);
      fresh->draft({&want, 1});
      expect_same(job.tree, want.tree);
      ASSERT_GT(job.tree.size(), 4);
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
      text.push_back(pick(300));
      if (round % 7 == 6) text.resize(text.size() - 3);
      if (text.size() > 80) text.resize(12);
    }
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
