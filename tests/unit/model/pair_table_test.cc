#include "model/layers/pair_table.h"

#include <gtest/gtest.h>

#include <array>

namespace hob {
namespace {

TEST(PairTable, KnowsNothingAtFirst) {
  PairTable table(4, 8);
  std::array<int32_t, 2> ids;
  std::array<float, 2> scores;
  const std::array<int32_t, 2> before{1, 2};
  EXPECT_EQ(table.predict(1, before, 2, ids.data(), scores.data()), 0);
}

TEST(PairTable, PredictsWhatFollowedMostOften) {
  PairTable table(4, 8);
  const std::array<int32_t, 2> a{1, 2}, b{3, 4};
  for (int i = 0; i < 3; i++) table.observe(2, a, std::array<int32_t, 2>{5, 6});
  table.observe(2, a, std::array<int32_t, 2>{5, 7});
  table.observe(2, b, std::array<int32_t, 2>{0, 1});
  std::array<int32_t, 3> ids;
  std::array<float, 3> scores;
  EXPECT_EQ(table.predict(2, a, 3, ids.data(), scores.data()), 3);
  EXPECT_EQ(ids, (std::array<int32_t, 3>{5, 6, 7}));
  EXPECT_GT(scores[0], scores[1]);
  EXPECT_EQ(table.predict(3, a, 3, ids.data(), scores.data()), 0);  // another layer
}

TEST(PairTable, OldHabitsFade) {
  PairTable table(2, 4);
  const std::array<int32_t, 1> before{0};
  for (int i = 0; i < 100000; i++) table.observe(1, before, std::array<int32_t, 1>{1});
  for (int i = 0; i < 1100; i++) table.observe(1, before, std::array<int32_t, 1>{2});
  std::array<int32_t, 1> id;
  std::array<float, 1> score;
  table.predict(1, before, 1, id.data(), score.data());
  EXPECT_EQ(id[0], 2);
}

TEST(PairTable, IgnoresIdsThatAreNone) {
  PairTable table(2, 4);
  table.observe(1, std::array<int32_t, 2>{-1, 9}, std::array<int32_t, 2>{1, 2});
  table.observe(1, std::array<int32_t, 1>{0}, std::array<int32_t, 2>{-1, 3});
  std::array<int32_t, 4> ids;
  std::array<float, 4> scores;
  EXPECT_EQ(table.predict(1, std::array<int32_t, 2>{-1, 0}, 4, ids.data(), scores.data()), 1);
  EXPECT_EQ(ids[0], 3);
}

}  // namespace
}  // namespace hob
