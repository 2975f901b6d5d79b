#include "experts/expert_input_stats.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

ExpertGeometry geometry() {
  ExpertGeometry g;
  g.layers.resize(2);
  g.layers[1].n_experts = 3;
  ExpertMatrix& gate = g.layers[1].parts[kGate];
  ExpertMatrix& down = g.layers[1].parts[kDown];
  gate.rows = down.cols = 2;
  gate.cols = down.rows = 4;
  g.layers[1].parts[kUp] = gate;
  return g;
}

Mat mat(std::vector<float>& values, int cols) {
  return {values.data(), static_cast<int>(values.size()) / cols, cols, cols};
}

TEST(ExpertInputStats, ManyRowsGiveTheirMeanSquare) {
  ExpertInputStats stats(geometry());
  std::vector<float> x = {1, 2, 0, 3}, h = {5, 1};
  for (int i = 0; i < 4000; i++) stats.add({1, 0}, mat(x, 4), mat(h, 2));
  const ExpertImportance w = stats.importance({1, 0});
  ASSERT_EQ(w[kGate].size(), 4u);
  ASSERT_EQ(w[kDown].size(), 2u);
  EXPECT_NEAR(w[kGate][0], 1, 0.02);
  EXPECT_NEAR(w[kGate][1], 4, 0.02);
  EXPECT_NEAR(w[kGate][3], 9, 0.02);
  EXPECT_NEAR(w[kUp][3], w[kGate][3], 0);
  EXPECT_NEAR(w[kDown][0], 25, 0.1);
  EXPECT_NEAR(w[kDown][1], 1, 0.1);
  // A column that was always zero still counts a little: zero weights would leave it to chance.
  EXPECT_GT(w[kGate][2], 0);
  EXPECT_LT(w[kGate][2], 0.01);
  EXPECT_EQ(stats.n_rows(), 4000u);
  EXPECT_EQ(stats.n_unseen(), 2);
}

TEST(ExpertInputStats, UnseenExpertsHaveTheirLayersAverage) {
  ExpertInputStats stats(geometry());
  std::vector<float> x = {2, 0, 0, 0}, y = {0, 4, 0, 0}, h = {1, 1};
  stats.add({1, 0}, mat(x, 4), mat(h, 2));
  stats.add({1, 1}, mat(y, 4), mat(h, 2));
  const ExpertImportance w = stats.importance({1, 2});
  EXPECT_NEAR(w[kGate][0], 2, 0.02);
  EXPECT_NEAR(w[kGate][1], 8, 0.02);
  // One row weighs 1 against 8 of the layer's average.
  const ExpertImportance own = stats.importance({1, 0});
  EXPECT_NEAR(own[kGate][0], (4 + 8 * 2.f) / 9, 0.02);
  EXPECT_NEAR(own[kGate][1], 8 * 8.f / 9, 0.02);
}

TEST(ExpertInputStats, SeveralRowsAtOnceAreTheSameAsOneByOne) {
  ExpertInputStats a(geometry()), b(geometry());
  std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8}, h = {1, 2, 3, 4};
  a.add({1, 1}, mat(x, 4), mat(h, 2));
  for (size_t r = 0; r < 2; r++)
    b.add({1, 1}, {x.data() + 4 * r, 1, 4, 4}, {h.data() + 2 * r, 1, 2, 2});
  const ExpertImportance wa = a.importance({1, 1});
  const std::vector<float> kept(wa[kGate].begin(), wa[kGate].end());
  const ExpertImportance wb = b.importance({1, 1});
  EXPECT_EQ(kept, std::vector<float>(wb[kGate].begin(), wb[kGate].end()));
}

TEST(ExpertInputStats, NothingSeenIsNoImportance) {
  ExpertInputStats stats(geometry());
  EXPECT_TRUE(stats.importance({1, 0})[kGate].empty());
  std::vector<float> zeros(4), h(2);
  stats.add({1, 0}, mat(zeros, 4), mat(h, 2));
  EXPECT_TRUE(stats.importance({1, 0})[kGate].empty());
}

}  // namespace
}  // namespace hob
