#include "backend/row_split.h"

#include <gtest/gtest.h>

#include <random>

namespace hob {
namespace {

std::vector<RowChunk> split(const std::vector<int>& n_rows, const RowSplit& how) {
  std::vector<RowChunk> chunks;
  split_rows(n_rows, how, chunks);
  return chunks;
}

// Every row of every matrix once and in order, chunks aligned to the unit and within the limit.
void expect_whole(const std::vector<int>& n_rows, const RowSplit& how) {
  std::vector<int> next(n_rows.size());
  int matrix = 0;
  for (const RowChunk& c : split(n_rows, how)) {
    ASSERT_GE(c.matrix, matrix);
    matrix = c.matrix;
    ASSERT_EQ(c.first, next[static_cast<size_t>(matrix)]);
    ASSERT_EQ(c.first % how.unit, 0);
    ASSERT_GT(c.count, 0);
    ASSERT_LE(c.count, how.max_rows);
    next[static_cast<size_t>(matrix)] += c.count;
  }
  EXPECT_EQ(next, n_rows);
}

TEST(RowSplit, CoversEveryRowOnce) {
  std::mt19937 rng(7);
  for (int i = 0; i < 2000; i++) {
    std::vector<int> n_rows(1 + rng() % 9);
    for (int& n : n_rows) n = 1 + static_cast<int>(rng() % 3000);
    const int unit = rng() % 2 ? 16 : 32;
    const int max_rows = rng() % 3 ? unit * (1 + static_cast<int>(rng() % 8)) : INT_MAX / 32 * 32;
    expect_whole(n_rows, {1 + static_cast<int>(rng() % 17), unit, max_rows});
  }
}

TEST(RowSplit, LongChunksFirstShortOnesLast) {
  const auto chunks = split({2048, 2048, 2048}, {.n_threads = 2, .unit = 16});
  EXPECT_EQ(chunks.front().count, 6144 / 4);
  EXPECT_LE(chunks.back().count, 64);
  for (size_t i = 1; i < chunks.size(); i++)
    if (chunks[i].matrix == chunks[i - 1].matrix) {
      EXPECT_LE(chunks[i].count, chunks[i - 1].count + 32);
    }
}

TEST(RowSplit, OneThreadTakesWholeMatrices) {
  EXPECT_EQ(split({100, 3}, {.n_threads = 1, .unit = 16}).size(), 2u);
}

TEST(RowSplit, EveryThreadGetsWork) {
  // An expert's hidden rows on sixteen threads, and eight narrow experts on two.
  EXPECT_GE(split({1024}, {.n_threads = 16, .unit = 32}).size(), 16u);
  EXPECT_GE(split(std::vector<int>(8, 96), {.n_threads = 2, .unit = 32}).size(), 8u);
}

}  // namespace
}  // namespace hob
