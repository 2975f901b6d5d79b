#include "kv/prefix_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <tuple>

namespace hob {
namespace {

using Tokens = std::array<int32_t, kKvBlock>;
constexpr int32_t kNone = PrefixIndex::kNone;

Tokens block_of_tokens(int32_t first) {
  Tokens t;
  for (int i = 0; i < kKvBlock; i++) t[static_cast<size_t>(i)] = first + i;
  return t;
}

// All tests with a good hash, one of 3 bits, and one that is always 0.
class PrefixIndexHash : public testing::TestWithParam<int> {
 protected:
  PrefixIndex make(int n_blocks, int n_nodes) { return {n_blocks, n_nodes, 42, GetParam()}; }
};

TEST_P(PrefixIndexHash, FindsExactlyTheSameContent) {
  PrefixIndex index = make(4, 8);
  const int32_t a = index.add(kNone, 1, block_of_tokens(0));
  const int32_t ab = index.add(a, 1, block_of_tokens(16));
  EXPECT_EQ(index.find(kNone, 1, block_of_tokens(0)), a);
  EXPECT_EQ(index.find(a, 1, block_of_tokens(16)), ab);
  EXPECT_EQ(index.add(a, 1, block_of_tokens(16)), ab);
  EXPECT_EQ(index.find(kNone, 2, block_of_tokens(0)), kNone) << "another scope";
  EXPECT_EQ(index.find(kNone, 1, block_of_tokens(16)), kNone) << "another parent";
  EXPECT_EQ(index.find(ab, 1, block_of_tokens(16)), kNone) << "another parent";
  for (int i = 0; i < kKvBlock; i++) {
    Tokens t = block_of_tokens(0);
    t[static_cast<size_t>(i)] ^= 1;
    EXPECT_EQ(index.find(kNone, 1, t), kNone) << "token " << i;
  }
  EXPECT_EQ(index.parent(ab), a);
  EXPECT_EQ(index.parent(a), kNone);
  EXPECT_EQ(index.tokens(ab)[3], 19);
}

TEST_P(PrefixIndexHash, EqualTokensBehindDifferentBlocksStayApart) {
  PrefixIndex index = make(4, 8);
  const int32_t a = index.add(kNone, 0, block_of_tokens(0));
  const int32_t b = index.add(kNone, 0, block_of_tokens(100));
  const int32_t ac = index.add(a, 0, block_of_tokens(50));
  const int32_t bc = index.add(b, 0, block_of_tokens(50));
  ASSERT_NE(ac, bc);
  index.set_block(ac, 0);
  index.set_block(bc, 1);
  EXPECT_EQ(index.block_of(index.find(a, 0, block_of_tokens(50))), 0);
  EXPECT_EQ(index.block_of(index.find(b, 0, block_of_tokens(50))), 1);
}

TEST_P(PrefixIndexHash, ANodeLivesWhileAnythingNeedsIt) {
  PrefixIndex index = make(4, 8);
  const int32_t a = index.add(kNone, 0, block_of_tokens(0));
  const int32_t ab = index.add(a, 0, block_of_tokens(16));
  index.set_block(a, 2);
  index.set_block(ab, 3);
  EXPECT_EQ(index.n_cached(), 2);
  index.release(a);
  index.release(ab);
  EXPECT_EQ(index.n_nodes(), 2) << "their blocks keep them";
  EXPECT_TRUE(index.forget(2));
  EXPECT_FALSE(index.forget(2));
  EXPECT_EQ(index.n_nodes(), 2) << "the child keeps its parent";
  EXPECT_EQ(index.find(kNone, 0, block_of_tokens(0)), a);
  EXPECT_EQ(index.block_of(a), kNone);
  EXPECT_TRUE(index.forget(3));
  EXPECT_EQ(index.n_nodes(), 0) << "the whole chain goes";
  EXPECT_EQ(index.n_cached(), 0);
  EXPECT_EQ(index.find(kNone, 0, block_of_tokens(0)), kNone);
}

TEST_P(PrefixIndexHash, NoRoomIsNoneAndChangesNothing) {
  PrefixIndex index = make(2, 2);
  const int32_t a = index.add(kNone, 0, block_of_tokens(0));
  const int32_t b = index.add(a, 0, block_of_tokens(16));
  EXPECT_EQ(index.add(b, 0, block_of_tokens(32)), kNone);
  EXPECT_EQ(index.n_nodes(), 2);
  EXPECT_EQ(index.add(kNone, 0, block_of_tokens(0)), a) << "known content needs no room";
  index.release(a);
  index.release(b);  // the only reason for b
  EXPECT_EQ(index.n_nodes(), 1);
  EXPECT_NE(index.add(a, 0, block_of_tokens(32)), kNone);
}

// Random walks in a small tree of contents, against a map from whole contents to blocks.
TEST_P(PrefixIndexHash, AgreesWithAMapOfWholeContents) {
  constexpr int kBlocks = 24;
  PrefixIndex index = make(kBlocks, 4 * kBlocks + 4);
  using Content = std::vector<int32_t>;  // scope, then the first token of every block
  std::map<Content, int32_t> model;      // contents that have a block
  std::vector<Content> content_of(kBlocks);
  std::mt19937 rng(5);
  const auto pick = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  int n_hits = 0;
  for (int step = 0; step < 20000; step++) {
    Content content = {pick(2)};
    const int depth = 1 + pick(4);
    int32_t node = kNone, held = kNone;
    for (int i = 0; i < depth; i++) {
      content.push_back(1000 * pick(3));
      const uint64_t scope = static_cast<uint64_t>(content[0]);
      const int32_t found = index.find(node, scope, block_of_tokens(content.back()));
      const bool in_model = model.contains(content);
      ASSERT_EQ(found != kNone && index.block_of(found) != kNone, in_model);
      if (in_model) {
        ASSERT_EQ(index.block_of(found), model[content]);
        n_hits++;
      }
      node = index.add(node, scope, block_of_tokens(content.back()));
      ASSERT_NE(node, kNone);
      index.release(held);
      held = node;
    }
    const int32_t block = pick(kBlocks);
    Content& old = content_of[static_cast<size_t>(block)];
    ASSERT_EQ(index.forget(block), !old.empty());
    model.erase(old);
    old.clear();
    if (!model.contains(content) && pick(3) > 0) {
      index.set_block(node, block);
      model[content] = block;
      old = content;
    }
    index.release(held);
    ASSERT_EQ(index.n_cached(), static_cast<int>(model.size()));
    ASSERT_LE(index.n_nodes(), 4 * static_cast<int>(model.size()));
  }
  EXPECT_GT(n_hits, 1000);
  for (int b = 0; b < kBlocks; b++) index.forget(b);
  EXPECT_EQ(index.n_nodes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Bits, PrefixIndexHash, testing::Values(64, 3, 0));

TEST(PrefixIndexDeath, OneBlockPerContentAndOneContentPerBlock) {
  PrefixIndex index(2, 4, 1);
  const int32_t a = index.add(kNone, 0, block_of_tokens(0));
  const int32_t b = index.add(kNone, 0, block_of_tokens(1));
  index.set_block(a, 0);
  EXPECT_DEATH(index.set_block(a, 1), "kNone");
  EXPECT_DEATH(index.set_block(b, 0), "kNone");
}

}  // namespace
}  // namespace hob
