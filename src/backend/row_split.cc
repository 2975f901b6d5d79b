#include "backend/row_split.h"

#include <algorithm>
#include <cstdint>

namespace hob {

void split_rows(std::span<const int> n_rows, const RowSplit& split, std::vector<RowChunk>& out) {
  out.clear();
  int64_t remaining = 0;
  for (int n : n_rows) remaining += n;
  const auto units = [&](int64_t n) { return (n + split.unit - 1) / split.unit * split.unit; };
  const int64_t shortest = units(32);
  for (size_t m = 0; m < n_rows.size(); m++) {
    for (int64_t first = 0; first < n_rows[m];) {
      const int64_t rest = n_rows[m] - first;
      int64_t count = std::max(shortest, units(remaining / (2 * split.n_threads)));
      if (split.n_threads == 1 || count + shortest > rest) count = rest;  // no crumbs
      count = std::min({count, rest, static_cast<int64_t>(split.max_rows)});
      out.push_back({static_cast<int>(m), static_cast<int>(first), static_cast<int>(count)});
      first += count;
      remaining -= count;
    }
  }
}

}  // namespace hob
