#include "quant/linalg.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/linalg_axpy.h"

namespace hob {
namespace {

constexpr int kBlock = 64;  // columns that are eliminated together
constexpr int kTaskRows = 16;

size_t at(int row, int col, int n) {
  return static_cast<size_t>(row) * static_cast<size_t>(n) + static_cast<size_t>(col);
}

int n_tasks(int rows, int per_task) { return (rows + per_task - 1) / per_task; }

// The diagonal block [first, end) of what is left.
bool factor_block(std::span<double> a, int n, int first, int end) {
  for (int j = first; j < end; j++) {
    double pivot = a[at(j, j, n)];
    for (int k = first; k < j; k++) pivot -= a[at(j, k, n)] * a[at(j, k, n)];
    if (!(pivot > 0) || !std::isfinite(pivot)) return false;
    const double root = std::sqrt(pivot);
    a[at(j, j, n)] = root;
    for (int i = j + 1; i < end; i++) {
      double sum = a[at(i, j, n)];
      for (int k = first; k < j; k++) sum -= a[at(i, k, n)] * a[at(j, k, n)];
      a[at(i, j, n)] = sum / root;
    }
  }
  return true;
}

// Rows [begin, stop) of the panel below the block: x L^T = a.
void solve_panel(std::span<double> a, int n, int first, int end, int begin, int stop) {
  for (int i = begin; i < stop; i++)
    for (int j = first; j < end; j++) {
      double sum = a[at(i, j, n)];
      for (int k = first; k < j; k++) sum -= a[at(i, k, n)] * a[at(j, k, n)];
      a[at(i, j, n)] = sum / a[at(j, j, n)];
    }
}

// Takes the panel's products from the rest; `across` is the panel transposed, [end - first, n].
void update_rest(std::span<double> a, std::span<const double> across, int n, int first, int end,
                 ThreadPool& pool) {
  pool.run(n_tasks(n - end, kTaskRows), [&](int task) {
    const int begin = end + task * kTaskRows, stop = std::min(n, begin + kTaskRows);
    for (int i = begin; i < stop; i++)
      for (int k = first; k < end; k++)
        add_scaled_to(-a[at(i, k, n)], &across[at(k - first, end, n)], &a[at(i, end, n)],
                      i + 1 - end);
  });
}

}  // namespace

bool cholesky_lower(std::span<double> a, int n, ThreadPool& pool) {
  HOB_CHECK(n > 0 && a.size() == at(n, 0, n));
  std::vector<double> across(at(std::min(kBlock, n), 0, n));
  for (int first = 0; first < n; first += kBlock) {
    const int end = std::min(n, first + kBlock);
    if (!factor_block(a, n, first, end)) return false;
    pool.run(n_tasks(n - end, kTaskRows), [&](int task) {
      const int begin = end + task * kTaskRows, stop = std::min(n, begin + kTaskRows);
      solve_panel(a, n, first, end, begin, stop);
      for (int i = begin; i < stop; i++)
        for (int k = first; k < end; k++) across[at(k - first, i, n)] = a[at(i, k, n)];
    });
    update_rest(a, across, n, first, end, pool);
  }
  for (int i = 0; i < n; i++) std::fill(&a[at(i, i, n)] + 1, a.data() + at(i + 1, 0, n), 0.0);
  return true;
}

std::vector<double> inverse_lower(std::span<const double> lower, int n, ThreadPool& pool) {
  HOB_CHECK(n > 0 && lower.size() == at(n, 0, n));
  std::vector<double> inverse(lower.size());
  // Columns do not depend on each other. Row i: (e_i - sum over k < i of l_ik * row k) / l_ii.
  pool.run(n_tasks(n, kBlock), [&](int task) {
    const int first = task * kBlock, end = std::min(n, first + kBlock);
    for (int i = first; i < n; i++) {
      double* const row = &inverse[at(i, first, n)];
      const int width = std::min(end, i + 1) - first;
      for (int k = first; k < i; k++)
        add_scaled_to(-lower[at(i, k, n)], &inverse[at(k, first, n)], row,
                      std::min(end, k + 1) - first);
      if (i < end) row[i - first] = 1;
      for (int j = 0; j < width; j++) row[j] /= lower[at(i, i, n)];
    }
  });
  return inverse;
}

// With the order of rows and columns reversed, the lower factor of h becomes an upper R with
// h = R R^T, so inverse(h) = R^-T R^-1: one factorisation and a triangular inverse give U = R^-1.
std::optional<std::vector<double>> upper_factor_of_inverse(std::span<const double> h, int n,
                                                           ThreadPool& pool) {
  std::vector<double> reversed(h.rbegin(), h.rend());
  if (!cholesky_lower(reversed, n, pool)) return std::nullopt;
  std::vector<double> inverse = inverse_lower(reversed, n, pool);
  std::reverse(inverse.begin(), inverse.end());
  return inverse;
}

}  // namespace hob
