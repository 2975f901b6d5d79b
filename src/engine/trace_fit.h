#pragma once
// HOBBIT's four weights by grid search on recorded routing. Ref: HOBBIT, section "multidimensional
// cache manager": the weights minimise the mixed-precision miss penalty on a calibration set.
#include <array>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/trace_sim.h"

namespace hob {

struct FitRow {
  std::array<double, 4> weights{};  // lru, lfu, lhu, fld; sum 1
  double penalty = 0;               // miss penalty over lru's, mean over all cases and budgets
  std::string policy() const;       // "hobbit:..."
};

struct FitCase {
  Replay replay;
  std::vector<SimBudget> budgets;  // at least one
};

// All points of the grid (multiples of 1 / n_steps), the best first; of equals the first in the
// order of the grid.
std::vector<FitRow> fit_hobbit(std::span<const FitCase> cases, int n_steps,
                               const std::function<void(size_t done, size_t total)>& progress);

}  // namespace hob
