// Sliding windows: blocks behind the window go back, prefix hits need the window's blocks only.
#include <gtest/gtest.h>

#include "unit/kv/kv_test_util.h"

namespace hob {
namespace {

constexpr int kWindow = 40;  // the position behind block n sees part of blocks n - 3 .. n - 1

KvStore windowed(int n_blocks) {
  return KvStore(test_geometry(KvType::kF32, kWindow), n_blocks * kKvBlock);
}

// What the engine does: a step's positions, then what no later position sees.
void decode(KvStore& kv, SeqId seq, int from, int to) {
  for (int i = from; i < to; i++) {
    ASSERT_TRUE(append(kv, seq, count_from(i, 1)));
    kv.release_before(seq, i + 1 - kWindow + 1);
  }
}

TEST(KvWindow, HoldsTheWindowOnly) {
  KvStore kv = windowed(5);
  const SeqId s = kv.create();
  decode(kv, s, 0, 1000);  // 63 blocks in a pool of 5
  EXPECT_EQ(kv.length(s), 1000);
  EXPECT_EQ(kv.first_position(s), 960);
  EXPECT_EQ(kv.n_blocks() - kv.n_free_blocks(), 3);
  EXPECT_TRUE(holds(kv, s, count_from(0, 1000)));
  for (int p : {0, 500, 959}) EXPECT_EQ(kv.slots(s)[static_cast<size_t>(p)], 0);
  kv.free(s);
  EXPECT_EQ(kv.n_free_blocks(), 5);
}

TEST(KvWindow, OnlyWholeBlocksGo) {
  KvStore kv = windowed(8);
  const SeqId s = run_prompt(kv, count_from(0, 60));
  kv.release_before(s, 15);
  EXPECT_EQ(kv.n_free_blocks(), 4);
  EXPECT_EQ(kv.first_position(s), 0);
  kv.release_before(s, 16);
  EXPECT_EQ(kv.n_free_blocks(), 5);
  EXPECT_EQ(kv.first_position(s), 16);
  kv.release_before(s, -5);
  kv.release_before(s, 3);
  EXPECT_EQ(kv.first_position(s), 16);
  kv.release_before(s, 60);
  EXPECT_EQ(kv.first_position(s), 48) << "the last block is not full";
  kv.truncate(s, 0);
  EXPECT_EQ(kv.first_position(s), 0);
  EXPECT_EQ(kv.n_free_blocks(), 8);
}

TEST(KvWindow, AHitNeedsTheWindowsBlocksOnly) {
  KvStore kv = windowed(9);
  const SeqId a = kv.create();
  decode(kv, a, 0, 128);
  kv.free(a);
  const SeqId other = kv.create();
  ASSERT_TRUE(append(kv, other, count_from(5000, 4 * kKvBlock)));  // the oldest four are lost
  ASSERT_EQ(kv.cached_prefix(0, count_from(0, 65)), 0);
  const SeqId b = kv.create();
  EXPECT_EQ(kv.attach_prefix(b, count_from(0, 129)), 128);
  EXPECT_EQ(kv.first_position(b), 80) << "position 128 sees from 89 on";
  EXPECT_EQ(kv.n_free_blocks(), 9 - 4 - 3);
  EXPECT_TRUE(holds(kv, b, count_from(0, 128)));
  ASSERT_TRUE(append(kv, b, count_from(128, 20)));
  EXPECT_TRUE(holds(kv, b, count_from(0, 148)));
}

TEST(KvWindow, AGapInsideTheWindowIsNoHit) {
  KvStore kv = windowed(8);
  const SeqId a = run_prompt(kv, count_from(0, 128));
  kv.release_before(a, 5 * kKvBlock);
  ASSERT_EQ(kv.n_free_blocks(), 5);
  const SeqId other = kv.create();
  ASSERT_TRUE(append(kv, other, count_from(5000, 3 * kKvBlock)));  // blocks 4, 3 and 2 are lost
  EXPECT_EQ(kv.cached_prefix(0, count_from(0, 112)), 32) << "6 blocks miss number 4";
  EXPECT_EQ(kv.cached_prefix(0, count_from(0, 129)), 128) << "8 blocks need 5, 6 and 7 only";
}

TEST(KvWindow, OtherHeadsAreNoHitHoweverEqualTheWindowIs) {
  KvStore kv = windowed(16);
  const SeqId a = kv.create();
  decode(kv, a, 0, 128);
  std::vector<int32_t> prompt = count_from(0, 129);
  prompt[0] = 77;  // far outside the window, but the values of every later position depend on it
  EXPECT_EQ(kv.cached_prefix(0, prompt), 0);
}

TEST(KvWindow, ShareAndTruncateKeepToWhatIsThere) {
  KvStore kv = windowed(16);
  const SeqId a = kv.create();
  decode(kv, a, 0, 105);
  const SeqId b = *kv.share(a, 100);
  EXPECT_EQ(kv.first_position(b), 64);
  ASSERT_TRUE(append(kv, b, count_from(100, 20)));
  EXPECT_TRUE(holds(kv, b, count_from(0, 120)));
  kv.truncate(a, 101);
  ASSERT_TRUE(append(kv, a, count_from(101, 9)));
  EXPECT_TRUE(holds(kv, a, count_from(0, 110)));
  EXPECT_DEATH(kv.truncate(a, 63), "n_released");
  EXPECT_DEATH(kv.share(a, 10), "n_released");
  kv.free(a);
  kv.free(b);
  EXPECT_EQ(kv.n_free_blocks(), 16);
}

}  // namespace
}  // namespace hob
