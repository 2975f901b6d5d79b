#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace hob {
namespace {

SeqView decoding() { return {1, 0, true}; }
SeqView prompt(int n) { return {n, n - 1, true}; }

TEST(Scheduler, NothingPendingNothingPlanned) {
  EXPECT_TRUE(schedule({}, {8, 8}, 0).empty());
  const std::vector<SeqView> idle = {{0, 0, true}, {5, 4, false}};
  EXPECT_TRUE(schedule(idle, {8, 8}, 3).empty());
}

TEST(Scheduler, DecodesFirstThenPromptChunks) {
  const std::vector<SeqView> seqs = {prompt(100), decoding(), prompt(3), decoding()};
  const std::vector<RowPlan> plan = schedule(seqs, {16, 16}, 0);
  ASSERT_EQ(plan.size(), 3u);
  EXPECT_EQ(plan[0].seq, 1);
  EXPECT_EQ(plan[1].seq, 3);
  EXPECT_EQ(plan[2].seq, 0);
  EXPECT_EQ(plan[2].n_tok, 14);  // what the two decodes left
}

TEST(Scheduler, LogitRowsAreABudgetToo) {
  const std::vector<SeqView> all_positions = {{100, 0, true}};
  EXPECT_EQ(schedule(all_positions, {64, 16}, 0)[0].n_tok, 16);
  const std::vector<SeqView> last_part = {{100, 40, true}};
  EXPECT_EQ(schedule(last_part, {64, 16}, 0)[0].n_tok, 56);
}

// Random populations: limits hold, no sequence twice, and everything is worked off.
TEST(Scheduler, PropertyLimitsAndProgress) {
  std::mt19937 rng(3);
  for (int round = 0; round < 300; round++) {
    const StepLimits limits = {1 + static_cast<int>(rng() % 40), 1 + static_cast<int>(rng() % 8)};
    std::vector<SeqView> seqs(1 + rng() % 20);
    int pending = 0;
    for (SeqView& s : seqs) {
      s.n_pending_tok = static_cast<int>(rng() % 60);
      s.n_logits_from =
          s.n_pending_tok ? static_cast<int>(rng() % static_cast<unsigned>(s.n_pending_tok)) : 0;
      pending += s.n_pending_tok;
    }
    int step = 0;
    while (pending > 0) {
      const std::vector<RowPlan> plan = schedule(seqs, limits, step++);
      ASSERT_FALSE(plan.empty());
      int rows = 0, logit_rows = 0;
      std::map<int, int> seen;
      for (const RowPlan& p : plan) {
        SeqView& s = seqs[static_cast<size_t>(p.seq)];
        ASSERT_EQ(seen[p.seq]++, 0);
        ASSERT_GE(p.n_tok, 1);
        ASSERT_LE(p.n_tok, s.n_pending_tok);
        rows += p.n_tok;
        logit_rows += std::max(0, p.n_tok - s.n_logits_from);
        s.n_pending_tok -= p.n_tok;
        s.n_logits_from = std::max(0, s.n_logits_from - p.n_tok);
        pending -= p.n_tok;
      }
      ASSERT_LE(rows, limits.max_rows);
      ASSERT_LE(logit_rows, limits.max_logit_rows);
    }
  }
}

// More decoding sequences than rows: with the start moving on, all get the same share.
TEST(Scheduler, NobodyStarves) {
  const std::vector<SeqView> seqs(10, decoding());
  std::map<int, int> turns;
  for (int step = 0; step < 100; step++)
    for (const RowPlan& p : schedule(seqs, {3, 3}, step)) turns[p.seq]++;
  for (int s = 0; s < 10; s++) EXPECT_EQ(turns[s], 30) << s;
}

}  // namespace
}  // namespace hob
