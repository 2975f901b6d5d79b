#pragma once
// Rows of a step grouped by the expert that they chose.
#include <cstdint>
#include <span>
#include <vector>

#include "experts/expert_store.h"

namespace hob {

class ExpertGrouping {
 public:
  ExpertGrouping(int n_experts, int max_choices);  // max_choices = max_rows * top_k

  // ids [n_rows, k]. Ids outside [0, n_experts) belong to no group.
  void build(int layer, std::span<const int32_t> ids, int k);
  // The experts that some row chose, by id.
  std::span<const ExpertKey> keys() const { return keys_; }
  // Rows of an expert, ascending, and where each one's result goes: row * k + rank.
  std::span<const int32_t> rows(int expert) const { return group(rows_, expert); }
  std::span<const int32_t> out_rows(int expert) const { return group(out_rows_, expert); }

 private:
  std::span<const int32_t> group(const std::vector<int32_t>& all, int expert) const {
    const size_t begin = static_cast<size_t>(first_[static_cast<size_t>(expert)]);
    const size_t end = static_cast<size_t>(first_[static_cast<size_t>(expert) + 1]);
    return std::span<const int32_t>(all).subspan(begin, end - begin);
  }

  int n_experts_;
  std::vector<int32_t> first_;  // [n_experts + 1] into rows_ and out_rows_
  std::vector<int32_t> next_;   // [n_experts]
  std::vector<int32_t> rows_, out_rows_;
  std::vector<ExpertKey> keys_;
};

}  // namespace hob
