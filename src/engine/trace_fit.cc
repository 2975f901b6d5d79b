#include "engine/trace_fit.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"

namespace hob {
namespace {

double penalty_of(const Replay& replay, const std::string& policy, const SimBudget& budget) {
  return simulate(replay, {.policy = policy, .budget = budget, .disk = {}})
      .penalty(replay.shape.low_ratio);
}

}  // namespace

std::string FitRow::policy() const {
  return fmt::format("hobbit:{:g},{:g},{:g},{:g}", weights[0], weights[1], weights[2], weights[3]);
}

std::vector<FitRow> fit_hobbit(std::span<const FitCase> cases, int n,
                               const std::function<void(size_t, size_t)>& progress) {
  HOB_CHECK(n > 0 && !cases.empty());
  std::vector<FitRow> rows;
  for (int lru = 0; lru <= n; lru++)
    for (int lfu = 0; lru + lfu <= n; lfu++)
      for (int lhu = 0; lru + lfu + lhu <= n; lhu++) {
        FitRow row;
        const int fld = n - lru - lfu - lhu;
        const int parts[] = {lru, lfu, lhu, fld};
        for (size_t i = 0; i < 4; i++) row.weights[i] = static_cast<double>(parts[i]) / n;
        rows.push_back(row);
      }
  struct Run {
    const Replay* replay;
    const SimBudget* budget;
    double lru;
  };
  std::vector<Run> runs;
  for (const FitCase& c : cases) {
    HOB_CHECK(!c.budgets.empty());
    for (const SimBudget& b : c.budgets)
      runs.push_back({&c.replay, &b, std::max(penalty_of(c.replay, "lru", b), 1e-9)});
  }
  for (size_t i = 0; i < rows.size(); i++) {
    for (const Run& run : runs)
      rows[i].penalty += penalty_of(*run.replay, rows[i].policy(), *run.budget) / run.lru /
                         static_cast<double>(runs.size());
    if (progress) progress(i + 1, rows.size());
  }
  std::sort(rows.begin(), rows.end(), [](const FitRow& a, const FitRow& b) {
    return std::tie(a.penalty, a.weights) < std::tie(b.penalty, b.weights);
  });
  return rows;
}

}  // namespace hob
