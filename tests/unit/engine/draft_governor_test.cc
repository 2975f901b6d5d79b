#include "engine/draft_governor.h"

#include <gtest/gtest.h>

#include <functional>

namespace hob {
namespace {

DraftTree chain(int n, float confidence) {
  DraftTree t;
  for (int i = 0; i < n; i++) t.add(i, i - 1, confidence);
  return t;
}

DraftJob job_of(DraftTree tree) {
  return {.state = nullptr, .tokens = {}, .tree = std::move(tree)};
}

// Steps of one sequence in a world where rows cost `cost` and every guess comes true with
// probability p, for n_steps. Tokens per second, relative to plain decoding.
double speed_up(DraftGovernor& g, const std::function<double(int)>& cost, double p, int n_steps,
                int n_skip = 0) {
  double n_tok = 0, seconds = 0;
  uint32_t random = 1;
  for (int step = 0; step < n_steps; step++) {
    DraftJob job = job_of(chain(8, 0.5f));
    g.choose({&job, 1}, 1, 8);
    int n_accepted = 0;
    while (n_accepted < job.tree.size()) {
      random = random * 1664525 + 1013904223;
      const bool came_true = static_cast<double>(random >> 8) * 0x1p-24 < p;
      g.add_outcome(0.5f, came_true);
      if (!came_true) break;
      n_accepted++;
    }
    const double s = cost(1 + job.tree.size());
    g.add_step(1 + job.tree.size(), s);
    if (step < n_skip) continue;
    n_tok += 1 + n_accepted;
    seconds += s;
  }
  return n_tok / seconds * cost(1);
}

TEST(DraftGovernor, DraftsWhereItPays) {
  DraftGovernor g;
  // Rows nearly free: the expected length is 1 / (1 - p) of at most 9.
  EXPECT_GT(speed_up(
                g, [](int n) { return 1 + 0.02 * (n - 1); }, 0.9, 500, 50),
            4.5);
}

TEST(DraftGovernor, NeverMuchSlowerThanPlainDecoding) {
  for (const double per_row : {0.1, 0.3, 1.0, 2.0})
    for (const double p : {0.0, 0.1, 0.3, 0.6}) {
      DraftGovernor g;
      const auto cost = [&](int n) { return 1 + per_row * (n - 1); };
      EXPECT_GT(speed_up(g, cost, p, 1000, 50), 0.975) << per_row << " " << p;
    }
}

TEST(DraftGovernor, FindsOutWhenTheTextChanges) {
  DraftGovernor g;
  const auto cost = [](int n) { return 1 + 0.05 * (n - 1); };
  speed_up(g, cost, 0.0, 300);
  EXPECT_GT(speed_up(g, cost, 0.95, 3000, 1500), 3.0);
}

TEST(DraftGovernor, PlateausAreSeen) {
  // 4 rows cost as 1, the fifth doubles the step.
  DraftGovernor g;
  const auto cost = [](int n) { return n <= 4 ? 1.0 : 2.0; };
  for (int n = 1; n <= 9; n++) g.add_step(n, cost(n));
  for (int i = 0; i < 50; i++) g.add_outcome(0.5f, i % 2 == 0);
  DraftJob job = job_of(chain(8, 0.5f));
  g.choose({&job, 1}, 1, 8);
  EXPECT_EQ(job.tree.size(), 3);
}

TEST(DraftGovernor, TheBetterGuessesOfAllSequencesAreTaken) {
  DraftGovernor g;
  for (int n = 1; n <= 16; n++) g.add_step(n, n <= 6 ? 1.0 : 3.0);
  std::vector<DraftJob> jobs;
  jobs.push_back(job_of(chain(4, 0.2f)));
  jobs.push_back(job_of(chain(4, 0.95f)));
  g.choose(jobs, 2, 100);
  EXPECT_EQ(jobs[0].tree.size(), 0);
  EXPECT_EQ(jobs[1].tree.size(), 4);
}

TEST(DraftGovernor, KeepsTheBestBranches) {
  DraftGovernor g;
  for (int n = 1; n <= 16; n++) g.add_step(n, n <= 4 ? 1.0 : 9.0);
  DraftTree t;
  t.add(10, DraftTree::kRoot, 0.05f);
  t.add(11, DraftTree::kRoot, 0.9f);
  t.add(12, 0, 0.9f);
  t.add(13, 1, 0.9f);
  t.add(14, 3, 0.9f);
  DraftJob job = job_of(t);
  g.choose({&job, 1}, 1, 100);
  EXPECT_EQ(job.tree.tokens, (std::vector<int32_t>{11, 13, 14}));
  EXPECT_EQ(job.tree.parents, (std::vector<int32_t>{DraftTree::kRoot, 0, 1}));
}

TEST(DraftGovernor, OneHiccupIsForgotten) {
  DraftGovernor g;
  for (int i = 0; i < 20; i++) g.add_step(2, 1);
  g.add_step(2, 1000);
  EXPECT_LT(g.step_seconds(2), 2);
  for (int i = 0; i < 20; i++) g.add_step(2, 1);
  EXPECT_LT(g.step_seconds(2), 1.01);
}

}  // namespace
}  // namespace hob
