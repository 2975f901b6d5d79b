#include "kv/kv_reservation.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "kv/kv_geometry.h"

namespace hob {
namespace {

TEST(KvReservation, MaxTakesTheLongest) {
  KvReservation r(KvReserve::kMax, 100);
  EXPECT_EQ(r.size(20, 512), 32);
  EXPECT_EQ(r.size(20, 16 * 1000), 100);  // what fits alone must start some day
}

TEST(KvReservation, OracleTakesTheTrueLength) {
  KvReservation r(KvReserve::kOracle, 100);
  EXPECT_EQ(r.size(1, 512), 1);
  EXPECT_EQ(r.size(33, 512), 3);
  const auto a = r.take(60), b = r.take(40);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(r.n_free_blocks(), 0);
  EXPECT_FALSE(r.take(1));
  r.give(*a);
  EXPECT_TRUE(r.take(60));
}

TEST(KvReservation, BuddyRoundsUpToPowersOfTwo) {
  KvReservation r(KvReserve::kOracleBuddy, 100);
  EXPECT_EQ(r.size(33, 512), 4);
  EXPECT_EQ(r.size(16 * 65, 1 << 20), 64);  // the largest piece of 100 = 64 + 32 + 4
}

TEST(KvReservation, BuddyMayHaveTheBlocksButNotInOnePiece) {
  KvReservation r(KvReserve::kOracleBuddy, 4);
  const auto a = r.take(1), b = r.take(1), c = r.take(1), d = r.take(1);
  ASSERT_TRUE(a && b && c && d);
  r.give(*a);
  r.give(*c);
  EXPECT_EQ(r.n_free_blocks(), 2);
  EXPECT_FALSE(r.take(2));
  r.give(*b);  // and its buddy is free: they join
  EXPECT_TRUE(r.take(2));
}

TEST(KvReservation, BuddyPiecesNeverOverlapAndAllComeBack) {
  constexpr int kBlocks = 213;
  std::mt19937 rng(7);
  KvReservation r(KvReserve::kOracleBuddy, kBlocks);
  std::vector<KvReservation::Piece> held;
  for (int i = 0; i < 5000; i++) {
    if (!held.empty() && rng() % 2) {
      std::swap(held[rng() % held.size()], held.back());
      r.give(held.back());
      held.pop_back();
    } else if (const auto piece =
                   r.take(r.size(1 + static_cast<int>(rng() % (16 * 40)), 16 * kBlocks))) {
      held.push_back(*piece);
    }
    std::set<int> blocks;
    int n = 0;
    for (const auto& p : held)
      for (int b = 0; b < p.n_blocks; b++, n++) {
        EXPECT_TRUE(blocks.insert(p.first + b).second);
        EXPECT_LT(p.first + b, kBlocks);
      }
    ASSERT_EQ(r.n_free_blocks(), kBlocks - n);
  }
  for (const auto& p : held) r.give(p);
  EXPECT_TRUE(r.take(128) && r.take(64) && r.take(16) && r.take(4) &&
              r.take(1));  // 213, whole again
}

}  // namespace
}  // namespace hob
