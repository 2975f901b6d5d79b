#include "model/layers/pair_table.h"

#include <algorithm>

namespace hob {
namespace {

// A count that reaches this halves its row: old habits fade, and no counter overflows.
constexpr uint16_t kMost = 1024;

}  // namespace

PairTable::PairTable(int n_layers, int n_experts)
    : n_(n_experts),
      counts_(static_cast<size_t>(n_layers) * static_cast<size_t>(n_experts) *
              static_cast<size_t>(n_experts)),
      sums_(static_cast<size_t>(n_experts)) {}

uint64_t PairTable::bytes(int n_layers, int n_experts) {
  const auto n = static_cast<uint64_t>(n_experts);
  return static_cast<uint64_t>(n_layers) * n * n * sizeof(uint16_t) + n * sizeof(uint32_t);
}

void PairTable::observe(int layer, std::span<const int32_t> before, std::span<const int32_t> now) {
  const auto valid = [&](int32_t e) { return e >= 0 && e < n_; };
  for (const int32_t b : before) {
    if (!valid(b)) continue;
    uint16_t* counts = row(layer, b);
    bool full = false;
    for (const int32_t e : now)
      if (valid(e)) full |= ++counts[e] >= kMost;
    if (full)
      for (int i = 0; i < n_; i++) counts[i] = static_cast<uint16_t>(counts[i] / 2);
  }
}

int PairTable::predict(int layer, std::span<const int32_t> before, int k, int32_t* ids,
                       float* scores) {
  std::fill(sums_.begin(), sums_.end(), 0u);
  for (const int32_t b : before) {
    if (b < 0 || b >= n_) continue;
    const uint16_t* counts = row(layer, b);
    for (int i = 0; i < n_; i++) sums_[static_cast<size_t>(i)] += counts[i];
  }
  int n = 0;
  for (; n < k; n++) {
    const auto best = std::max_element(sums_.begin(), sums_.end());
    if (*best == 0) break;
    ids[n] = static_cast<int32_t>(best - sums_.begin());
    scores[n] = static_cast<float>(*best);
    *best = 0;
  }
  return n;
}

}  // namespace hob
