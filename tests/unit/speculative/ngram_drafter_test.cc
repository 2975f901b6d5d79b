#include "speculative/ngram_drafter.h"

#include <gtest/gtest.h>

#include <random>

#include "speculative/suffix_index.h"

namespace hob {
namespace {

using Tokens = std::vector<int32_t>;

// The definition, slowly.
SuffixIndex::Match slow_match(const Tokens& t) {
  SuffixIndex::Match best;
  const auto n = static_cast<int>(t.size());
  for (int end = n - 1; end >= 1; end--) {
    int length = 0;
    while (length < SuffixIndex::kLongest && length < end &&
           t[static_cast<size_t>(end - 1 - length)] == t[static_cast<size_t>(n - 1 - length)])
      length++;
    if (length >= SuffixIndex::kShortest && length > best.length) best = {end, length};
  }
  return best;
}

TEST(SuffixIndex, FindsTheLongestLatestMatch) {
  std::mt19937 rng(3);
  for (int round = 0; round < 50; round++) {
    SuffixIndex index;
    Tokens text;
    for (int i = 0; i < 60; i++) {
      if (i % 20 == 19 && round % 2) {  // an answer that was taken back
        text.resize(text.size() / 2);
        text.push_back(99);
      }
      text.push_back(static_cast<int32_t>(rng() % 4));
      index.update(text);
      const SuffixIndex::Match got = index.longest_match(), want = slow_match(text);
      ASSERT_EQ(got.length, want.length);
      if (want.length > 0) {
        ASSERT_EQ(got.next, want.next);
      }
    }
  }
}

Tokens draft_of(const Tokens& text, int max_nodes, int max_depth = 100) {
  const auto drafter = make_ngram_drafter();
  const auto state = drafter->open({}, 0);
  DraftJob job{.state = state.get(),
               .tokens = text,
               .max_nodes = max_nodes,
               .max_depth = max_depth,
               .tree = {}};
  drafter->draft({&job, 1});
  for (int i = 0; i < job.tree.size(); i++) {
    EXPECT_EQ(job.tree.parents[static_cast<size_t>(i)], i - 1);
    EXPECT_GT(job.tree.confidence[static_cast<size_t>(i)], 0.f);
    EXPECT_LT(job.tree.confidence[static_cast<size_t>(i)], 1.f);
  }
  return job.tree.tokens;
}

TEST(NgramDrafter, SaysWhatFollowedTheLastTime) {
  EXPECT_EQ(draft_of({1, 2, 3, 4, 5, 9, 2, 3}, 3), (Tokens{4, 5, 9}));
  EXPECT_EQ(draft_of({1, 2, 3, 4, 5, 9, 2, 3}, 3, 2), (Tokens{4, 5}));
  EXPECT_EQ(draft_of({1, 2, 3, 7, 2, 3, 8, 1, 2, 3}, 2), (Tokens{7, 2}));  // longer beats later
  EXPECT_EQ(draft_of({1, 2, 3}, 3), Tokens{});
  EXPECT_EQ(draft_of({1}, 3), Tokens{});
  EXPECT_EQ(draft_of({}, 3), Tokens{});
}

TEST(NgramDrafter, AShortPeriodGoesRound) {
  EXPECT_EQ(draft_of({1, 2, 1, 2, 1, 2}, 5), (Tokens{1, 2, 1, 2, 1}));
  EXPECT_EQ(draft_of({5, 5, 5}, 4), (Tokens{5, 5, 5, 5}));
}

}  // namespace
}  // namespace hob
