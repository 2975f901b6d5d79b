#include "model/layers/expert_grouping.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

std::vector<int32_t> list(std::span<const int32_t> s) { return {s.begin(), s.end()}; }

TEST(ExpertGrouping, RowsInOrderPerExpert) {
  ExpertGrouping g(5, 8);
  const int32_t ids[] = {3, 1, 1, 0, 3, 1};  // 3 rows, k = 2
  g.build(7, ids, 2);
  EXPECT_EQ(std::vector<ExpertKey>(g.keys().begin(), g.keys().end()),
            (std::vector<ExpertKey>{{7, 0}, {7, 1}, {7, 3}}));
  EXPECT_EQ(list(g.rows(0)), (std::vector<int32_t>{1}));
  EXPECT_EQ(list(g.rows(1)), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(list(g.out_rows(1)), (std::vector<int32_t>{1, 2, 5}));
  EXPECT_EQ(list(g.rows(3)), (std::vector<int32_t>{0, 2}));
  EXPECT_EQ(list(g.out_rows(3)), (std::vector<int32_t>{0, 4}));
  EXPECT_TRUE(g.rows(2).empty());
}

TEST(ExpertGrouping, RebuildForgetsTheLastStep) {
  ExpertGrouping g(3, 4);
  const int32_t first[] = {0, 1, 2, 0}, second[] = {2, 2};
  g.build(0, first, 2);
  g.build(1, second, 1);
  ASSERT_EQ(g.keys().size(), 1u);
  EXPECT_EQ(g.keys()[0], (ExpertKey{1, 2}));
  EXPECT_EQ(list(g.rows(2)), (std::vector<int32_t>{0, 1}));
  EXPECT_TRUE(g.rows(0).empty());
}

TEST(ExpertGrouping, InvalidIdsBelongNowhere) {
  ExpertGrouping g(3, 4);
  const int32_t ids[] = {-1, 2, 3, 1};
  g.build(0, ids, 2);
  ASSERT_EQ(g.keys().size(), 2u);
  EXPECT_EQ(list(g.rows(1)), (std::vector<int32_t>{1}));
  EXPECT_EQ(list(g.rows(2)), (std::vector<int32_t>{0}));
}

}  // namespace
}  // namespace hob
