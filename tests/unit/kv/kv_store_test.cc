#include "kv/kv_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "unit/kv/kv_test_util.h"

namespace hob {
namespace {

TEST(KvStore, CapacityIsRoundedUpToBlocks) {
  KvStore kv(test_geometry(), 17);
  EXPECT_EQ(kv.free_tokens(), 32);
  EXPECT_EQ(KvStore::bytes(test_geometry(), 17), KvStore::bytes(test_geometry(), 32));
  EXPECT_EQ(test_geometry().bytes_per_token(), (2 * (4 + 6) + 1 * (8 + 2)) * 4u);
  EXPECT_EQ(test_geometry(KvType::kF16).bytes_per_token(), (2 * (4 + 6) + 1 * (8 + 2)) * 2u);
  EXPECT_EQ(KvStore::bytes(test_geometry(), 32), 32 * test_geometry().bytes_per_token());
}

TEST(KvStore, ReserveCommitTruncate) {
  KvStore kv(test_geometry(), 64);
  const SeqId s = kv.create();
  const auto slots = kv.reserve(s, 20);
  ASSERT_TRUE(slots);
  EXPECT_EQ(slots->size(), 20u);
  EXPECT_EQ(std::set<int32_t>(slots->begin(), slots->end()).size(), 20u);
  EXPECT_EQ(kv.length(s), 0);
  EXPECT_EQ(kv.free_tokens(), 32);
  kv.commit(s, 10);  // the second block was only for the rest
  EXPECT_EQ(kv.length(s), 10);
  EXPECT_EQ(kv.slots(s).size(), 10u);
  EXPECT_EQ(kv.free_tokens(), 48);
  kv.truncate(s, 0);
  EXPECT_EQ(kv.free_tokens(), 64);
  kv.free(s);
}

TEST(KvStore, FullPoolIsNoneAndChangesNothing) {
  KvStore kv(test_geometry(), 32);
  const SeqId a = kv.create(), b = kv.create();
  ASSERT_TRUE(kv.reserve(a, 20));
  kv.commit(a, 20);
  EXPECT_FALSE(kv.reserve(b, 1));
  EXPECT_FALSE(kv.reserve(a, 13));
  EXPECT_FALSE(kv.reserve(a, 2147483647 - 20));
  EXPECT_TRUE(kv.reserve(a, 12));
  EXPECT_EQ(kv.length(a), 20);
  kv.free(a);
  EXPECT_TRUE(kv.reserve(b, 32));
}

TEST(KvStore, RepeatedReserveReplaces) {
  KvStore kv(test_geometry(), 64);
  const SeqId s = kv.create();
  ASSERT_TRUE(kv.reserve(s, 40));
  const auto slots = kv.reserve(s, 3);
  ASSERT_TRUE(slots);
  EXPECT_EQ(slots->size(), 3u);
  EXPECT_EQ(kv.free_tokens(), 48);
}

TEST(KvStore, SharedBlockIsCopiedBeforeAWrite) {
  KvStore kv(test_geometry(), 64);
  const SeqId a = kv.create();
  const auto slots = kv.reserve(a, 20);
  for (int i = 0; i < 20; i++)
    write_mark(kv, (*slots)[static_cast<size_t>(i)], static_cast<uint32_t>(i));
  kv.commit(a, 20);
  const std::optional<SeqId> b = kv.share(a, 18);
  ASSERT_TRUE(b);
  EXPECT_EQ(kv.length(*b), 18);
  EXPECT_EQ(kv.free_tokens(), 32);  // nothing copied yet
  const auto appended = kv.reserve(*b, 1);
  ASSERT_TRUE(appended);
  write_mark(kv, appended->front(), 77);
  kv.commit(*b, 1);
  for (int p = 0; p < 20; p++)
    EXPECT_TRUE(mark_intact(kv, kv.slots(a)[static_cast<size_t>(p)], static_cast<uint32_t>(p)))
        << p;
  for (int p = 0; p < 18; p++)
    EXPECT_TRUE(mark_intact(kv, kv.slots(*b)[static_cast<size_t>(p)], static_cast<uint32_t>(p)))
        << p;
  EXPECT_TRUE(mark_intact(kv, kv.slots(*b)[18], 77));
}

TEST(KvStore, ARefusedReservationKeepsTheOneBefore) {
  KvStore kv(test_geometry(), 64);
  const SeqId s = kv.create();
  ASSERT_TRUE(append(kv, s, count_from(0, 10)));
  const auto slots = kv.reserve(s, 20);
  ASSERT_TRUE(slots);
  const std::vector<int32_t> before(kv.slots(s).begin(), kv.slots(s).end());
  EXPECT_FALSE(kv.reserve(s, 55));
  EXPECT_EQ(std::vector<int32_t>(kv.slots(s).begin(), kv.slots(s).end()), before);
  EXPECT_EQ(kv.n_free_blocks(), 2);
  kv.commit(s, 20);
  EXPECT_EQ(kv.length(s), 30);
}

TEST(KvStore, BlocksNeededCountsTheCopy) {
  KvStore kv(test_geometry(), 64);
  const SeqId a = kv.create();
  EXPECT_EQ(kv.blocks_needed(a, 0), 0);
  EXPECT_EQ(kv.blocks_needed(a, 1), 1);
  EXPECT_EQ(kv.blocks_needed(a, 33), 3);
  EXPECT_EQ(kv.blocks_needed(a, 2147483647), 134217728);
  ASSERT_TRUE(append(kv, a, count_from(0, 20)));
  EXPECT_EQ(kv.blocks_needed(a, 12), 0);
  EXPECT_EQ(kv.blocks_needed(a, 13), 1);
  const SeqId b = *kv.share(a, 20);
  EXPECT_EQ(kv.blocks_needed(b, 12), 1) << "its last block is shared";
  EXPECT_EQ(kv.blocks_needed(b, 13), 2);
  EXPECT_EQ(kv.blocks_needed(b, 0), 0);
  const SeqId c = *kv.share(a, 16);
  EXPECT_EQ(kv.blocks_needed(c, 1), 1) << "a shared full block is not written to";
  kv.free(a);
  EXPECT_EQ(kv.blocks_needed(b, 12), 0) << "nobody else holds it now";
}

TEST(KvStore, WhoeverWritesFirstGetsTheCopy) {
  KvStore kv(test_geometry(), 64);
  const SeqId a = kv.create();
  ASSERT_TRUE(append(kv, a, count_from(0, 10)));
  const SeqId b = *kv.share(a, 10);
  EXPECT_EQ(kv.slots(a)[0], kv.slots(b)[0]);
  ASSERT_TRUE(append(kv, a, count_from(100, 1)));
  EXPECT_NE(kv.slots(a)[0], kv.slots(b)[0]);
  const int32_t of_b = kv.slots(b)[0];
  ASSERT_TRUE(append(kv, b, count_from(200, 1)));
  EXPECT_EQ(kv.slots(b)[0], of_b) << "no second copy";
  EXPECT_EQ(kv.n_free_blocks(), 2);
  std::vector<int32_t> expected = count_from(0, 10);
  expected.push_back(100);
  EXPECT_TRUE(holds(kv, a, expected));
  expected.back() = 200;
  EXPECT_TRUE(holds(kv, b, expected));
}

// Prompt + answer of ShareGPT conversations: roughly log-normal, mean about 300 tokens. Reserved
// but unused are the rest of the last block of each sequence and nothing else.
TEST(KvStore, WasteIsBelowFourPercentForChatLengths) {
  KvStore kv(test_geometry(), 500 * 1024);
  std::mt19937 rng(11);
  std::lognormal_distribution<double> length(5.2, 1.0);
  int64_t n_tok = 0;
  for (int i = 0; i < 500; i++) {
    const int n = std::clamp(static_cast<int>(length(rng)), 4, 2048);
    const SeqId s = kv.create();
    const int before = kv.n_free_blocks();
    for (int done = 0; done < n; done += 64) {
      const int m = std::min(64, n - done);
      ASSERT_TRUE(kv.reserve(s, m));
      kv.commit(s, m);
    }
    EXPECT_EQ(before - kv.n_free_blocks(), (n + kKvBlock - 1) / kKvBlock) << "one partial block";
    n_tok += n;
  }
  const double mean = static_cast<double>(n_tok) / 500;
  EXPECT_GT(mean, 250);
  EXPECT_LT(mean, 350);
  const double held = static_cast<double>(kv.n_blocks() - kv.n_free_blocks()) * kKvBlock;
  EXPECT_LT(1 - static_cast<double>(n_tok) / held, 0.04);
}

TEST(KvStore, AFreedIdIsGivenAgainAndStartsEmpty) {
  KvStore kv(test_geometry(), 64);
  const SeqId a = kv.create(5);
  ASSERT_TRUE(append(kv, a, count_from(0, 40)));
  kv.free(a);
  EXPECT_EQ(kv.create(6), a);
  EXPECT_EQ(kv.length(a), 0);
  EXPECT_EQ(kv.slots(a).size(), 0u);
  EXPECT_EQ(kv.attach_prefix(a, count_from(0, 40)), 0) << "the scope is the new one";
}

TEST(KvStoreDeath, MisuseIsABug) {
  KvStore kv(test_geometry(), 64);
  const SeqId a = kv.create();
  ASSERT_TRUE(append(kv, a, count_from(0, 20)));
  EXPECT_DEATH(kv.truncate(a, 21), "n_committed");
  EXPECT_DEATH(kv.commit(a, 1), "slots");
  EXPECT_DEATH(kv.attach_prefix(a, count_from(0, 40)), "n_committed");
  ASSERT_TRUE(kv.reserve(a, 2));
  EXPECT_DEATH(kv.commit(a, 2, count_from(0, 1)), "tokens");
  kv.free(a);
  EXPECT_DEATH(kv.length(a), "live");
}

}  // namespace
}  // namespace hob
