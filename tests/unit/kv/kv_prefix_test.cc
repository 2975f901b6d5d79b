// The prefix cache of the KvStore.
#include <gtest/gtest.h>

#include "unit/kv/kv_test_util.h"

namespace hob {
namespace {

std::vector<int32_t> operator+(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The last block of a prompt that is cached as a whole.
int cached_blocks(const KvStore& kv, const std::vector<int32_t>& tokens, uint64_t scope = 0) {
  return kv.cached_prefix(scope, tokens + count_from(0, 1)) / kKvBlock;
}

TEST(KvPrefix, ASecondPromptTakesTheBlocksOfTheFirst) {
  KvStore kv(test_geometry(), 16 * kKvBlock);
  const std::vector<int32_t> system = count_from(0, 50);
  const SeqId a = run_prompt(kv, system + count_from(500, 10));
  const int n_free = kv.n_free_blocks();
  const SeqId b = kv.create();
  const std::vector<int32_t> prompt = system + count_from(900, 10);
  EXPECT_EQ(kv.cached_prefix(0, prompt), 48);
  EXPECT_EQ(kv.attach_prefix(b, prompt), 48) << "50 equal tokens, 3 full blocks";
  EXPECT_EQ(kv.length(b), 48);
  EXPECT_EQ(kv.n_free_blocks(), n_free) << "shared, not copied";
  for (size_t p = 0; p < 48; p++) EXPECT_EQ(kv.slots(a)[p], kv.slots(b)[p]);
  EXPECT_EQ(kv.blocks_needed(b, 12), 1);
  ASSERT_TRUE(append(kv, b, std::span(prompt).subspan(48)));
  EXPECT_TRUE(holds(kv, b, prompt));
  EXPECT_TRUE(holds(kv, a, system + count_from(500, 10)));
  EXPECT_EQ(kv.prefix_stats().n_query_tok, 120u);
  EXPECT_EQ(kv.prefix_stats().n_hit_tok, 48u);
}

TEST(KvPrefix, OneTokenIsAlwaysLeftToCompute) {
  KvStore kv(test_geometry(), 16 * kKvBlock);
  kv.free(run_prompt(kv, count_from(0, 48)));
  for (const auto& [n, hit] : {std::pair{0, 0},
                               {1, 0},
                               {15, 0},
                               {16, 0},
                               {17, 16},
                               {32, 16},
                               {33, 32},
                               {48, 32},
                               {49, 48}})
    EXPECT_EQ(kv.cached_prefix(0, count_from(0, n)), hit) << n;
}

TEST(KvPrefix, DecodedTokensAreCachedToo) {
  KvStore kv(test_geometry(), 16 * kKvBlock);
  const SeqId a = run_prompt(kv, count_from(0, 10));
  for (int i = 10; i < 40; i++) ASSERT_TRUE(append(kv, a, count_from(i, 1)));
  EXPECT_EQ(cached_blocks(kv, count_from(0, 40)), 2) << "while it runs";
  kv.free(a);
  const SeqId b = run_prompt(kv, count_from(0, 60));  // the second turn
  EXPECT_EQ(kv.prefix_stats().n_hit_tok, 32u);
  EXPECT_TRUE(holds(kv, b, count_from(0, 60)));
}

TEST(KvPrefix, WhatFollowsAHitIsCachedBehindIt) {
  KvStore kv(test_geometry(), 16 * kKvBlock);
  kv.free(run_prompt(kv, count_from(0, 40)));
  const SeqId b = run_prompt(kv, count_from(0, 70));  // 32 from the cache
  EXPECT_EQ(cached_blocks(kv, count_from(0, 70)), 4);
  EXPECT_EQ(kv.n_cached_blocks(), 4);
  kv.truncate(b, 21);  // back into what came from the cache
  ASSERT_TRUE(append(kv, b, count_from(300, 11)));
  EXPECT_EQ(cached_blocks(kv, count_from(0, 21) + count_from(300, 11)), 2);
}

TEST(KvPrefix, ScopesAreApart) {
  KvStore kv(test_geometry(), 16 * kKvBlock);
  run_prompt(kv, count_from(0, 40), 1);
  EXPECT_EQ(kv.cached_prefix(1, count_from(0, 40)), 32);
  EXPECT_EQ(kv.cached_prefix(2, count_from(0, 40)), 0);
  const SeqId other = run_prompt(kv, count_from(0, 40), 2);
  EXPECT_EQ(kv.prefix_stats().n_hit_tok, 0u);
  const SeqId copy = *kv.share(other, 20);
  kv.free(other);
  ASSERT_TRUE(append(kv, copy, count_from(100, 12)));
  EXPECT_EQ(kv.cached_prefix(2, count_from(0, 20) + count_from(100, 13)), 32) << "share keeps it";
}

TEST(KvPrefix, WithoutTokensNothingIsCached) {
  KvStore kv(test_geometry(), 16 * kKvBlock);
  const SeqId a = kv.create();
  ASSERT_TRUE(append(kv, a, count_from(0, 20)));
  ASSERT_TRUE(append(kv, a, count_from(20, 12), /*known=*/false));
  ASSERT_TRUE(append(kv, a, count_from(32, 32)));
  EXPECT_EQ(kv.n_cached_blocks(), 1) << "only what came before the unknown tokens";
  kv.truncate(a, 20);
  ASSERT_TRUE(append(kv, a, count_from(20, 12)));
  EXPECT_EQ(kv.n_cached_blocks(), 2) << "known again";
}

TEST(KvPrefix, TheOldestGoesFirstAndTailsBeforeHeads) {
  KvStore kv(test_geometry(), 8 * kKvBlock);
  const std::vector<int32_t> first = count_from(0, 48), second = count_from(1000, 48);
  const SeqId a = run_prompt(kv, first), b = run_prompt(kv, second);
  kv.free(a);
  kv.free(b);
  EXPECT_EQ(kv.n_free_blocks(), 8);
  EXPECT_EQ(kv.n_cached_blocks(), 6);
  const SeqId big = kv.create();
  ASSERT_TRUE(kv.reserve(big, 2 * kKvBlock));
  EXPECT_EQ(kv.n_cached_blocks(), 6) << "two blocks had nothing to lose";
  ASSERT_TRUE(kv.reserve(big, 3 * kKvBlock));
  EXPECT_EQ(cached_blocks(kv, first), 2) << "its tail went";
  ASSERT_TRUE(kv.reserve(big, 5 * kKvBlock));
  EXPECT_EQ(cached_blocks(kv, first), 0);
  EXPECT_EQ(cached_blocks(kv, second), 3);
  ASSERT_TRUE(kv.reserve(big, 7 * kKvBlock));
  EXPECT_EQ(cached_blocks(kv, second), 1);
  EXPECT_EQ(kv.prefix_stats().n_evicted, 5u);
}

TEST(KvPrefix, AHitMakesBlocksRecentlyUsed) {
  KvStore kv(test_geometry(), 4 * kKvBlock);
  const std::vector<int32_t> first = count_from(0, 32), second = count_from(1000, 32);
  kv.free(run_prompt(kv, first));
  kv.free(run_prompt(kv, second));
  const SeqId a = kv.create();
  EXPECT_EQ(kv.attach_prefix(a, first + count_from(0, 1)), 32);
  EXPECT_EQ(kv.n_free_blocks(), 2);
  kv.free(a);
  ASSERT_TRUE(kv.reserve(kv.create(), 32));
  EXPECT_EQ(cached_blocks(kv, first), 2);
  EXPECT_EQ(cached_blocks(kv, second), 0);
}

TEST(KvPrefix, ATruncatedBlockIsFoundUntilItIsRewritten) {
  KvStore kv(test_geometry(), 8 * kKvBlock);
  const SeqId a = run_prompt(kv, count_from(0, 32));
  kv.truncate(a, 20);
  EXPECT_EQ(cached_blocks(kv, count_from(0, 32)), 2);
  ASSERT_TRUE(append(kv, a, count_from(700, 12)));  // alone: in place
  EXPECT_EQ(kv.blocks_needed(a, 1), 1);
  EXPECT_EQ(cached_blocks(kv, count_from(0, 32)), 1);
  EXPECT_EQ(cached_blocks(kv, count_from(0, 20) + count_from(700, 12)), 2);
  EXPECT_TRUE(holds(kv, a, count_from(0, 20) + count_from(700, 12)));
}

TEST(KvPrefix, RewritingLeavesWhatOthersHold) {
  KvStore kv(test_geometry(), 8 * kKvBlock);
  const SeqId a = run_prompt(kv, count_from(0, 33));
  const SeqId b = run_prompt(kv, count_from(0, 40));
  kv.truncate(b, 20);
  ASSERT_TRUE(append(kv, b, count_from(700, 12)));
  EXPECT_TRUE(holds(kv, a, count_from(0, 33)));
  EXPECT_EQ(cached_blocks(kv, count_from(0, 32)), 2) << "a's block keeps its hash";
  const SeqId c = run_prompt(kv, count_from(0, 33));
  EXPECT_TRUE(holds(kv, c, count_from(0, 33)));
}

TEST(KvPrefix, TwoThatComputedTheSameStandInForEachOther) {
  KvStore kv(test_geometry(), 8 * kKvBlock);
  const SeqId a = kv.create(), b = kv.create();
  ASSERT_TRUE(append(kv, a, count_from(0, 32)));
  ASSERT_TRUE(append(kv, b, count_from(0, 32)));
  EXPECT_EQ(kv.n_cached_blocks(), 2) << "each content once";
  kv.truncate(a, 0);
  ASSERT_TRUE(kv.reserve(a, 6 * kKvBlock));  // takes all but b's
  EXPECT_EQ(kv.n_cached_blocks(), 0);
  kv.free(b);
  EXPECT_EQ(cached_blocks(kv, count_from(0, 32)), 2);
  const SeqId c = kv.create();
  EXPECT_EQ(kv.attach_prefix(c, count_from(0, 33)), 32);
  EXPECT_TRUE(holds(kv, c, count_from(0, 32)));
}

TEST(KvPrefix, NoCollisionServesAnotherPrompt) {
  for (int bits : {0, 2}) {
    KvStore kv(test_geometry(), 64 * kKvBlock, {.seed = 1, .hash_bits = bits, .n_nodes = 0});
    for (int i = 0; i < 20; i++) kv.free(run_prompt(kv, count_from(i * 100, 33)));
    for (int i = 0; i < 20; i++) {
      const SeqId s = kv.create();
      EXPECT_EQ(kv.attach_prefix(s, count_from(i * 100, 33)), 32);
      EXPECT_TRUE(holds(kv, s, count_from(i * 100, 32)));
      kv.free(s);
      EXPECT_EQ(kv.cached_prefix(0, count_from(i * 100 + 1, 33)), 0);
    }
  }
}

TEST(KvPrefix, ClearingAlsoStopsWhatRuns) {
  KvStore kv(test_geometry(), 8 * kKvBlock);
  kv.free(run_prompt(kv, count_from(900, 32)));
  const SeqId a = run_prompt(kv, count_from(0, 20));
  kv.clear_prefix_cache();
  EXPECT_EQ(kv.n_cached_blocks(), 0);
  ASSERT_TRUE(append(kv, a, count_from(20, 20)));
  EXPECT_TRUE(holds(kv, a, count_from(0, 40)));
  kv.free(a);
  EXPECT_EQ(kv.n_cached_blocks(), 0);
  EXPECT_EQ(kv.n_free_blocks(), 8);
  kv.free(run_prompt(kv, count_from(0, 40)));
  EXPECT_EQ(kv.n_cached_blocks(), 2) << "new ones are cached";
}

TEST(KvPrefix, AFullIndexMakesRoomFromTheOldest) {
  KvStore kv(test_geometry(), 16 * kKvBlock, {.seed = {}, .hash_bits = 64, .n_nodes = 4});
  kv.free(run_prompt(kv, count_from(0, 48)));
  const SeqId a = run_prompt(kv, count_from(1000, 48));
  EXPECT_EQ(cached_blocks(kv, count_from(1000, 48)), 3);
  EXPECT_EQ(cached_blocks(kv, count_from(0, 48)), 1);
  const SeqId b = run_prompt(kv, count_from(2000, 48));
  EXPECT_EQ(cached_blocks(kv, count_from(2000, 48)), 1) << "the rest belongs to who runs";
  EXPECT_TRUE(holds(kv, a, count_from(1000, 48)));
  EXPECT_TRUE(holds(kv, b, count_from(2000, 48)));
  kv.free(a);
  ASSERT_TRUE(append(kv, b, count_from(2048, 16)));
  EXPECT_EQ(cached_blocks(kv, count_from(2000, 64)), 1) << "behind a gap nothing can be found";
}

}  // namespace
}  // namespace hob
