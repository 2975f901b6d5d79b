#include "kv/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

namespace hob {
namespace {

TEST(BlockPool, FreshBlocksComeInOrder) {
  BlockPool pool(3);
  EXPECT_EQ(pool.n_free(), 3);
  for (int b = 0; b < 3; b++) {
    EXPECT_EQ(pool.take(), b);
    EXPECT_EQ(pool.refs(b), 1);
  }
  EXPECT_EQ(pool.n_free(), 0);
  EXPECT_EQ(pool.oldest_cached(), BlockPool::kNone);
}

TEST(BlockPool, CachedContentGoesLastAndLeastRecentlyUsedFirst) {
  BlockPool pool(4);
  for (int i = 0; i < 4; i++) pool.take();
  pool.release(2, true);
  pool.release(0, true);
  pool.release(3, false);
  pool.release(1, true);
  EXPECT_EQ(pool.oldest_cached(), 2);
  EXPECT_EQ(pool.take(), 3);  // nothing to lose
  EXPECT_EQ(pool.take(), 2);
  EXPECT_EQ(pool.take(), 0);
  EXPECT_EQ(pool.take(), 1);
}

TEST(BlockPool, AHitTakesABlockOutOfTheMiddleOfTheQueue) {
  BlockPool pool(3);
  for (int i = 0; i < 3; i++) pool.take();
  for (int b : {0, 1, 2}) pool.release(b, true);
  pool.hold(1);
  EXPECT_EQ(pool.n_free(), 2);
  EXPECT_EQ(pool.refs(1), 1);
  pool.hold(1);
  pool.release(1, true);
  EXPECT_EQ(pool.n_free(), 2) << "still held once";
  pool.release(1, true);
  EXPECT_EQ(pool.take(), 0);
  EXPECT_EQ(pool.take(), 2);
  EXPECT_EQ(pool.take(), 1) << "used last";
}

TEST(BlockPool, DiscardedContentGoesFirst) {
  BlockPool pool(3);
  for (int i = 0; i < 3; i++) pool.take();
  for (int b : {0, 1}) pool.release(b, true);
  pool.discard(1);
  pool.discard(2);  // held: stays held
  EXPECT_EQ(pool.refs(2), 1);
  EXPECT_EQ(pool.n_free(), 2);
  EXPECT_EQ(pool.take(), 1);
  EXPECT_EQ(pool.take(), 0);
}

// Against two plain queues.
TEST(BlockPool, BehavesAsAStackOfEmptyBlocksBeforeAnLruQueue) {
  constexpr int kBlocks = 13;
  BlockPool pool(kBlocks);
  std::deque<int32_t> empty, cached;
  std::vector<int> refs(kBlocks, 0);
  for (int b = 0; b < kBlocks; b++) empty.push_back(b);
  std::mt19937 rng(7);
  const auto pick = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  const auto drop = [](std::deque<int32_t>& list, int32_t b) {
    list.erase(std::remove(list.begin(), list.end(), b), list.end());
  };
  for (int step = 0; step < 20000; step++) {
    const int32_t b = pick(kBlocks);
    int& n_refs = refs[static_cast<size_t>(b)];
    switch (pick(4)) {
      case 0: {
        if (empty.empty() && cached.empty()) break;
        std::deque<int32_t>& list = empty.empty() ? cached : empty;
        ASSERT_EQ(pool.take(), list.front());
        refs[static_cast<size_t>(list.front())] = 1;
        list.pop_front();
        break;
      }
      case 1:
        pool.hold(b);
        if (n_refs++ == 0) {
          drop(empty, b);
          drop(cached, b);
        }
        break;
      case 2: {
        if (n_refs == 0) break;
        const bool keep = pick(3) > 0;
        pool.release(b, keep);
        if (--n_refs > 0) break;
        if (keep)
          cached.push_back(b);
        else
          empty.push_front(b);
        break;
      }
      default:
        if (pick(5) > 0) break;
        pool.discard(b);
        if (n_refs > 0) break;
        drop(empty, b);
        drop(cached, b);
        empty.push_front(b);
    }
    ASSERT_EQ(pool.n_free(), static_cast<int>(empty.size() + cached.size()));
    ASSERT_EQ(pool.oldest_cached(), cached.empty() ? BlockPool::kNone : cached.front());
    ASSERT_EQ(pool.refs(b), n_refs);
  }
}

TEST(BlockPoolDeath, TakingFromAnEmptyPoolAndReleasingAFreeBlockAreBugs) {
  BlockPool pool(1);
  EXPECT_DEATH(pool.release(0, false), "n_refs > 0");
  pool.take();
  EXPECT_DEATH(pool.take(), "n_free_ > 0");
  EXPECT_DEATH(pool.hold(1), "block");
}

}  // namespace
}  // namespace hob
