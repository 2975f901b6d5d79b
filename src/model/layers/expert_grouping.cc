#include "model/layers/expert_grouping.h"

#include <algorithm>

#include "base/error.h"

namespace hob {

ExpertGrouping::ExpertGrouping(int n_experts, int max_choices)
    : n_experts_(n_experts),
      first_(static_cast<size_t>(n_experts) + 1),
      next_(static_cast<size_t>(n_experts)),
      rows_(static_cast<size_t>(max_choices)),
      out_rows_(static_cast<size_t>(max_choices)) {
  keys_.reserve(static_cast<size_t>(n_experts));
}

void ExpertGrouping::build(int layer, std::span<const int32_t> ids, int k) {
  HOB_CHECK(ids.size() <= rows_.size());
  const auto valid = [&](int32_t id) { return id >= 0 && id < n_experts_; };
  // Counting sort: it keeps the rows of an expert in order.
  std::fill(first_.begin(), first_.end(), 0);
  for (int32_t id : ids)
    if (valid(id)) first_[static_cast<size_t>(id) + 1]++;
  keys_.clear();
  for (int32_t e = 0; e < n_experts_; e++) {
    const size_t i = static_cast<size_t>(e);
    if (first_[i + 1] > 0) keys_.push_back({layer, e});
    first_[i + 1] += first_[i];
    next_[i] = first_[i];
  }
  for (size_t c = 0; c < ids.size(); c++) {
    if (!valid(ids[c])) continue;
    const size_t at = static_cast<size_t>(next_[static_cast<size_t>(ids[c])]++);
    rows_[at] = static_cast<int32_t>(c) / k;
    out_rows_[at] = static_cast<int32_t>(c);
  }
}

}  // namespace hob
