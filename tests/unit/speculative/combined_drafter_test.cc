#include "speculative/combined_drafter.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "speculative/ngram_drafter.h"

namespace hob {
namespace {

struct NoState : DraftState {};

// Always the same tree, and counts how often it is asked.
class FixedDrafter : public Drafter {
 public:
  FixedDrafter(DraftTree tree, int* n_asked) : tree_(std::move(tree)), n_asked_(n_asked) {}
  std::string_view name() const override { return "fixed"; }
  std::unique_ptr<DraftState> open(const SamplingParams&, uint32_t) override {
    return std::make_unique<NoState>();
  }
  void draft(std::span<DraftJob> jobs) override {
    for (DraftJob& job : jobs) {
      (*n_asked_)++;
      job.tree = tree_;
      job.tree.resize(std::min(tree_.size(), job.max_nodes));
    }
  }
  void write(std::span<DraftJob> jobs) override {
    for (DraftJob& job : jobs) {
      job.tree.clear();
      job.tree.add(77, DraftTree::kRoot, 1);
    }
  }

 private:
  const DraftTree tree_;
  int* n_asked_;
};

DraftTree tree_of(std::initializer_list<std::tuple<int32_t, int32_t, float>> nodes) {
  DraftTree t;
  for (const auto& [token, parent, confidence] : nodes) t.add(token, parent, confidence);
  return t;
}

// Each node as the tokens that lead to it.
std::map<std::vector<int32_t>, float> paths(const DraftTree& t) {
  std::map<std::vector<int32_t>, float> out;
  std::vector<std::vector<int32_t>> path(t.tokens.size());
  for (size_t i = 0; i < t.tokens.size(); i++) {
    if (t.parents[i] != DraftTree::kRoot) path[i] = path[static_cast<size_t>(t.parents[i])];
    path[i].push_back(t.tokens[i]);
    out[path[i]] = t.confidence[i];
  }
  return out;
}

TEST(MergeTrees, WhatBothGuessIsOneNode) {
  const DraftTree a = tree_of({{1, -1, 0.5f}, {2, 0, 0.5f}});
  const DraftTree b = tree_of({{9, -1, 0.3f}, {1, -1, 0.6f}, {2, 1, 0.2f}, {3, 1, 0.1f}});
  const auto all = paths(merge_trees(a, b, 16));
  EXPECT_EQ(all, (std::map<std::vector<int32_t>, float>{
                     {{1}, 0.6f}, {{1, 2}, 0.5f}, {{1, 3}, 0.1f}, {{9}, 0.3f}}));
}

TEST(MergeTrees, TheBestNodesOfAnyTwoAreATree) {
  std::mt19937 rng(5);
  const auto random_tree = [&](int n) {
    DraftTree t;
    for (int i = 0; i < n; i++) {
      const auto parent = static_cast<int32_t>(rng() % static_cast<unsigned>(i + 1)) - 1;
      const auto token = static_cast<int32_t>(rng() % 6);
      if (t.child(parent, token) == DraftTree::kRoot)
        t.add(token, std::min(parent, t.size() - 1), static_cast<float>(rng() % 100) / 100);
    }
    return t;
  };
  for (int round = 0; round < 300; round++) {
    const DraftTree a = random_tree(static_cast<int>(rng() % 12));
    const DraftTree b = random_tree(static_cast<int>(rng() % 12));
    auto expected = paths(a);
    for (const auto& [path, confidence] : paths(b)) {
      const auto at = expected.emplace(path, confidence).first;
      at->second = std::max(at->second, confidence);
    }
    EXPECT_EQ(paths(merge_trees(a, b, 64)), expected);
    const int most = static_cast<int>(rng() % 10);
    const DraftTree cut = merge_trees(a, b, most);
    EXPECT_EQ(cut.size(), std::min(most, static_cast<int>(expected.size())));
    for (size_t i = 0; i < cut.parents.size(); i++)
      EXPECT_LT(cut.parents[i], static_cast<int32_t>(i));
  }
}

TEST(CombinedDrafter, TheSecondIsAskedWhereTheFirstIsNotCertain) {
  int n_asked = 0;
  const auto drafter = make_combined_drafter(
      make_ngram_drafter(),
      std::make_unique<FixedDrafter>(tree_of({{5, -1, 0.9f}, {6, 0, 0.9f}}), &n_asked));
  const auto state = drafter->open({}, 0);
  const auto draft = [&](const std::vector<int32_t>& text) {
    DraftJob job{.state = state.get(), .tokens = text, .max_nodes = 8, .max_depth = 8, .tree = {}};
    drafter->draft({&job, 1});
    return job.tree;
  };
  std::vector<int32_t> text{1, 2, 3, 1, 2};
  EXPECT_EQ(paths(draft(text)).count({3}), 1u);  // what stood before
  EXPECT_EQ(paths(draft(text)).count({5, 6}), 1u);
  EXPECT_EQ(n_asked, 2);
  for (int i = 0; i < 40; i++) text.push_back(text[text.size() - 3]);
  const DraftTree certain = draft(text);
  EXPECT_EQ(n_asked, 2);
  EXPECT_EQ(certain.size(), 8);
}

// What it says by itself is the model's, not what stood before.
TEST(CombinedDrafter, WritesAsTheSecond) {
  int n_asked = 0;
  const auto drafter = make_combined_drafter(make_ngram_drafter(),
                                             std::make_unique<FixedDrafter>(DraftTree(), &n_asked));
  const auto state = drafter->open({}, 0);
  const std::vector<int32_t> text{1, 1, 1, 1, 1, 1};
  DraftJob job{.state = state.get(), .tokens = text, .tree = {}};
  drafter->write({&job, 1});
  EXPECT_EQ(job.tree.tokens, std::vector<int32_t>{77});
}

}  // namespace
}  // namespace hob
