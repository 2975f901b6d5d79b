#pragma once
// The slow twin of every policy: its definition evaluated from the whole history, copy by copy. The
// victim must be as small as the smallest.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "experts/policy.h"

namespace hob {

struct History {
  struct Use {
    int expert = 0;
    Precision used = Precision::kHigh;
    int64_t step = 0;
  };
  PolicyShape shape;
  std::vector<std::vector<Use>> sequences{1};  // in order; the last is the present one
  std::vector<int> loads;                      // copies

  bool is_low(int copy) const { return copy >= shape.n_experts(); }
  int layer(int copy) const { return shape.layer_of[static_cast<size_t>(shape.expert_of(copy))]; }
};

// The smallest goes; the second number decides between equals.
using TwinValue = std::pair<double, double>;
using Twin = std::function<TwinValue(const History&, int copy, const EvictionRequest&)>;

struct TwinRow {
  std::string policy;
  Twin value;
};
const std::vector<TwinRow>& policy_twins();

}  // namespace hob
