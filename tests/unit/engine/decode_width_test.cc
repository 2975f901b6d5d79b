#include "engine/decode_width.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace hob {
namespace {

// Runs `n_turns` turns; tok_s(width) is the machine. Returns tokens per second of all of it.
double run(DecodeWidth& width, int n_decoding, int n_turns,
           const std::function<double(int)>& tok_s) {
  double n_tok = 0, seconds = 0;
  for (int turn = 0; turn < n_turns; turn++) do {
      const int rows = width.rows(n_decoding);
      EXPECT_GE(rows, 1);
      EXPECT_LE(rows, n_decoding);
      width.add_step(rows, n_decoding, rows / tok_s(rows));
      n_tok += rows;
      seconds += rows / tok_s(rows);
    } while (!width.turn_over());
  return n_tok / seconds;
}

TEST(DecodeWidth, BeginsWithAll) {
  const DecodeWidth width;
  for (int n : {1, 2, 7, 8, 100}) EXPECT_EQ(width.rows(n), n);
}

TEST(DecodeWidth, FindsTheBestWidthAndStaysNearIt) {
  const auto machine = [](int rows) { return rows == 4 ? 8.7 : rows > 4 ? 6.9 : 6.0 + rows; };
  DecodeWidth width;
  run(width, 8, 8, machine);
  EXPECT_GT(run(width, 8, 200, machine), 0.98 * 8.7);
}

TEST(DecodeWidth, AllWhenMoreIsAlwaysBetter) {
  const auto machine = [](int rows) { return 3.0 + rows; };
  DecodeWidth width;
  run(width, 6, 4, machine);
  EXPECT_GT(run(width, 6, 200, machine), 0.98 * machine(6));
  EXPECT_EQ(run(width, 1, 5, machine), machine(1));
}

// Answers of a hundred tokens are six turns: what is tried in vain must not cost much of them.
TEST(DecodeWidth, ShortAnswersLoseLittleToTrials) {
  const auto machine = [](int rows) { return rows == 8 ? 4.8 : 3.8; };
  DecodeWidth width;
  EXPECT_GT(run(width, 8, 7, machine), 0.98 * 4.8);
}

// While the slots fill, steps are slow whatever the width.
TEST(DecodeWidth, TheFirstTurnSaysNothing) {
  DecodeWidth width;
  run(width, 8, 1, [](int) { return 1.0; });
  EXPECT_EQ(width.rows(8), 8);
  run(width, 8, 1, [](int rows) { return 1.0 + rows; });
  EXPECT_EQ(width.rows(8), 4);  // tried
  run(width, 8, 1, [](int rows) { return 1.0 + rows; });
  EXPECT_EQ(width.rows(8), 8);
}

TEST(DecodeWidth, FollowsAChange) {
  DecodeWidth width;
  run(width, 16, 20, [](int rows) { return 10.0 + rows; });
  const auto now = [](int rows) { return 30.0 / rows; };
  run(width, 16, 5 * DecodeWidth::kStaleTurns, now);
  EXPECT_GT(run(width, 16, 100, now), 0.9 * now(1));
}

TEST(DecodeWidth, NoiseDoesNotFoolItForLong) {
  std::mt19937 rng(3);
  std::normal_distribution<double> noise(1, 0.15);
  const auto mean = [](int rows) { return rows == 2 ? 10.0 : 7.0; };
  DecodeWidth width;
  run(width, 8, 20, mean);
  const double all = run(width, 8, 500, [&](int r) { return mean(r) * std::max(0.3, noise(rng)); });
  EXPECT_GT(all, 9.0);
}

}  // namespace
}  // namespace hob
