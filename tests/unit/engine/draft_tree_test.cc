// Trees in the step loop: every accepted path gives what plain decoding gives, bit for bit.
#include "engine/draft_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/error.h"
#include "engine/engine.h"
#include "unit/engine/serving_test_util.h"

namespace hob {
namespace {

constexpr int kRoot = DraftTree::kRoot;

DraftTree tree_of(std::vector<int32_t> tokens, std::vector<int32_t> parents) {
  DraftTree t;
  for (size_t i = 0; i < tokens.size(); i++) t.add(tokens[i], parents[i]);
  return t;
}

TEST(DraftTree, WalkFollowsWhatTheTreeGuessed) {
  const DraftTree t = tree_of({10, 11, 12, 13, 14}, {kRoot, kRoot, 1, 1, 3});
  TreeWalk walk(t);
  EXPECT_TRUE(walk.waits_for(kRoot));
  walk.choose(11);
  EXPECT_FALSE(walk.waits_for(0));
  EXPECT_TRUE(walk.waits_for(1));
  walk.choose(13);
  EXPECT_FALSE(walk.waits_for(2));
  walk.choose(99);
  EXPECT_FALSE(walk.waits_for(4));
  EXPECT_TRUE(walk.finish());
  EXPECT_EQ(std::vector<int32_t>(walk.path().begin(), walk.path().end()),
            (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(walk.bonus(), 99);
}

TEST(DraftTree, ANodeWithoutARowIsTheBonus) {
  const DraftTree t = tree_of({10, 11}, {kRoot, 0});
  TreeWalk walk(t);
  walk.choose(10);
  EXPECT_TRUE(walk.finish());
  EXPECT_TRUE(walk.path().empty());
  EXPECT_EQ(walk.bonus(), 10);
  EXPECT_FALSE(TreeWalk(t).finish());
}

TEST(DraftTree, EveryPrefixIsATree) {
  DraftTree t = tree_of({10, 11, 12}, {kRoot, 0, 1});
  EXPECT_EQ(tree_depth(t), 3);
  t.resize(2);
  EXPECT_EQ(tree_depth(t), 2);
  EXPECT_DEATH(t.add(1, 2), "expected parent");
}

class TreeSteps : public testing::TestWithParam<KvType> {
 protected:
  using Logits = std::vector<float>;
  TreeSteps() {
    SessionOptions options = serving_options(160, 4);
    options.kv = GetParam();
    options.chunk = 64;
    options.max_logit_rows = 40;
    session_ = load_session(options);
  }
  Engine& engine() { return session_->engine(); }

  // After the last of `tokens`, alone in a sequence.
  const Logits& plain(const std::vector<int32_t>& tokens) {
    Logits& known = plain_[tokens];
    if (!known.empty()) return known;
    const int seq = engine().open();
    engine().feed(seq, tokens, 1);
    while (engine().step([&](int s, int, std::span<const float> row) {
      if (s == seq) known.assign(row.begin(), row.end());
    })) {
    }
    engine().close(seq);
    return known;
  }

  DraftTree random_tree(int n) {
    DraftTree t;
    for (int i = 0; i < n; i++) t.add(pick(320), pick(3) == 0 ? i - 1 : pick(i + 1) - 1);
    return t;
  }
  int pick(int n) { return static_cast<int>(rng_() % static_cast<unsigned>(n)); }

  // Computes what is pending in `seq` alone; logits by position as the sink names it.
  std::map<int, Logits> run(int seq) {
    std::map<int, Logits> out;
    while (engine().n_pending(seq) + engine().n_pending_nodes(seq) > 0) {
      const int n = engine().n_pending(seq) + engine().n_pending_nodes(seq);
      const RowPlan plan{seq, std::min(n, engine().limits().max_rows)};
      engine().run({&plan, 1}, [&](int, int position, std::span<const float> row) {
        out[position].assign(row.begin(), row.end());
      });
    }
    return out;
  }

  std::string error_of(int seq) {
    try {
      if (engine().error(seq)) std::rethrow_exception(engine().error(seq));
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  std::vector<int32_t> path_to(const DraftTree& t, int32_t node) {
    std::vector<int32_t> path;
    for (; node != kRoot; node = t.parents[static_cast<size_t>(node)])
      path.insert(path.begin(), node);
    return path;
  }
  std::vector<int32_t> text(std::vector<int32_t> tokens, const DraftTree& t,
                            const std::vector<int32_t>& path) {
    for (const int32_t node : path) tokens.push_back(t.tokens[static_cast<size_t>(node)]);
    return tokens;
  }

  std::unique_ptr<ModelSession> session_;
  std::map<std::vector<int32_t>, Logits> plain_;
  std::mt19937 rng_{5};
};

INSTANTIATE_TEST_SUITE_P(Kv, TreeSteps, testing::Values(KvType::kF16, KvType::kF32, KvType::kQ8),
                         [](const auto& p) { return std::string(kv_type_name(p.param)); });

TEST_P(TreeSteps, ANodesLogitsAreThoseOfItsPathAlone) {
  std::vector<int32_t> tokens = some_tokens(21);
  const int seq = engine().open(0);
  engine().feed(seq, tokens, 1);
  for (int round = 0; round < 8; round++) {
    const DraftTree t = random_tree(1 + pick(24));
    engine().extend_tree(seq, t);
    const std::map<int, Logits> got = run(seq);
    ASSERT_EQ(got.size(), 1 + t.tokens.size());
    EXPECT_EQ(got.at(static_cast<int>(tokens.size()) - 1), plain(tokens));
    for (int i = 0; i < t.size(); i++)
      ASSERT_EQ(got.at(static_cast<int>(tokens.size()) + i), plain(text(tokens, t, path_to(t, i))))
          << "round " << round << " node " << i;
    const std::vector<int32_t> path = path_to(t, pick(t.size() + 1) - 1);
    engine().accept(seq, path);
    tokens = text(tokens, t, path);
    ASSERT_TRUE(std::ranges::equal(engine().tokens(seq), tokens));
    ASSERT_EQ(engine().n_pending(seq), 0);
    tokens.push_back(pick(320));  // the bonus
    engine().feed(seq, {&tokens.back(), 1}, 1);
  }
  engine().close(seq);
  EXPECT_EQ(engine().kv().n_free_blocks(), engine().kv().n_blocks());
}

// As a drafter does it: level by level, and part of the tree outlives the accepted path.
TEST_P(TreeSteps, ATreeGrowsAndSurvivesItsRootMoving) {
  std::vector<int32_t> tokens = some_tokens(30);
  const int seq = engine().open();
  engine().feed(seq, tokens, 1);
  run(seq);
  DraftTree t;
  for (int round = 0; round < 10; round++) {
    for (int level = 0; level < 2; level++) {
      DraftTree more;
      const int before = t.size();
      for (int i = 0; i < 1 + pick(5); i++) {
        t.add(pick(320), pick(t.size() + 1) - 1);
        more.tokens.push_back(t.tokens.back());
        more.parents.push_back(t.parents.back());
      }
      engine().extend_tree(seq, more);
      const std::map<int, Logits> got = run(seq);
      ASSERT_EQ(got.size(), more.tokens.size());
      for (int i = before; i < t.size(); i++)
        ASSERT_EQ(got.at(static_cast<int>(tokens.size()) + i),
                  plain(text(tokens, t, path_to(t, i))))
            << "round " << round << " node " << i;
    }
    // Some child of the root is the new root; what hangs below it stays.
    const std::vector<int32_t> path = path_to(t, pick(t.size()));
    std::vector<int32_t> keep;
    for (int32_t i = path.back() + 1; i < t.size(); i++) {
      const std::vector<int32_t> way = path_to(t, i);
      if (way.size() > path.size() && std::equal(path.begin(), path.end(), way.begin()))
        keep.push_back(i);
    }
    engine().accept(seq, path, keep);
    tokens = text(tokens, t, path);
    t = engine().tree(seq);
    ASSERT_EQ(t.tokens.size(), keep.size());
    if (tokens.size() > 100) break;
  }
  engine().close(seq);
}

TEST_P(TreeSteps, PartOfATreeCanBeComputedAndTheRestDropped) {
  std::vector<int32_t> tokens = some_tokens(17);
  const int seq = engine().open(0);
  engine().feed(seq, tokens, 1);
  const DraftTree t = random_tree(20);
  engine().extend_tree(seq, t);
  const RowPlan plan{seq, 17 + 5};
  int n_rows = 0;
  engine().run({&plan, 1}, [&](int, int, std::span<const float>) { n_rows++; });
  EXPECT_EQ(n_rows, 6);
  EXPECT_EQ(engine().n_pending_nodes(seq), 15);
  engine().accept(seq, {});
  EXPECT_EQ(engine().n_pending_nodes(seq), 0);
  EXPECT_EQ(engine().n_computed(seq), 17);
  EXPECT_EQ(engine().n_blocks(seq), 2);
}

// A tree leaves nothing in the prefix cache but what was accepted.
TEST_P(TreeSteps, AcceptedTokensEnterThePrefixCache) {
  std::vector<int32_t> tokens = some_tokens(20);
  const int seq = engine().open(7);
  engine().feed(seq, tokens, 1);
  const DraftTree t = random_tree(30);
  engine().extend_tree(seq, t);
  run(seq);
  std::vector<int32_t> deepest;
  for (int i = 0; i < t.size(); i++)
    if (path_to(t, i).size() > deepest.size()) deepest = path_to(t, i);
  engine().accept(seq, deepest);
  tokens = text(tokens, t, deepest);
  for (int i = 0; i < 40; i++) tokens.push_back(pick(320));
  engine().feed(seq, std::span(tokens).last(40), 1);
  run(seq);
  const int again = engine().open(7);
  tokens.push_back(3);
  engine().feed(again, tokens, 1);
  EXPECT_EQ(engine().attach_prefix(again),
            static_cast<int>(tokens.size() - 1) / kKvBlock * kKvBlock);
  const std::map<int, Logits> got = run(again);
  ASSERT_EQ(got.size(), 1u) << error_of(again);
  EXPECT_EQ(got.begin()->second, plain(tokens));
}

TEST_P(TreeSteps, BadNodesAreRefused) {
  const int seq = engine().open();
  engine().feed(seq, some_tokens(150), 1);
  EXPECT_THROW(engine().extend_tree(seq, tree_of({320}, {kRoot})), Error);
  DraftTree deep;
  for (int i = 0; i < 11; i++) deep.add(5, i - 1);
  EXPECT_THROW(engine().extend_tree(seq, deep), Error);
  EXPECT_EQ(engine().n_pending_nodes(seq), 0);
  deep.resize(10);
  engine().extend_tree(seq, deep);
  EXPECT_EQ(run(seq).size(), 11u);
}

}  // namespace
}  // namespace hob
