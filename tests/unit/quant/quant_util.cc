#include "unit/quant/quant_util.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace hob::test {
namespace {

size_t at(int row, int col, int cols) {
  return static_cast<size_t>(row) * static_cast<size_t>(cols) + static_cast<size_t>(col);
}

std::vector<double> slow_cholesky(const std::vector<double>& a, int n) {
  std::vector<double> lower(a.size());
  for (int i = 0; i < n; i++)
    for (int j = 0; j <= i; j++) {
      double sum = a[at(i, j, n)];
      for (int k = 0; k < j; k++) sum -= lower[at(i, k, n)] * lower[at(j, k, n)];
      lower[at(i, j, n)] = i == j ? std::sqrt(sum) : sum / lower[at(j, j, n)];
    }
  return lower;
}

// Column by column: L y = e, then L^T x = y.
std::vector<double> inverse_from_cholesky(const std::vector<double>& lower, int n) {
  std::vector<double> inverse(lower.size());
  for (int c = 0; c < n; c++) {
    std::vector<double> x(static_cast<size_t>(n));
    x[static_cast<size_t>(c)] = 1;
    for (int i = 0; i < n; i++) {
      for (int k = 0; k < i; k++)
        x[static_cast<size_t>(i)] -= lower[at(i, k, n)] * x[static_cast<size_t>(k)];
      x[static_cast<size_t>(i)] /= lower[at(i, i, n)];
    }
    for (int i = n - 1; i >= 0; i--) {
      for (int k = i + 1; k < n; k++)
        x[static_cast<size_t>(i)] -= lower[at(k, i, n)] * x[static_cast<size_t>(k)];
      x[static_cast<size_t>(i)] /= lower[at(i, i, n)];
    }
    for (int i = 0; i < n; i++) inverse[at(i, c, n)] = x[static_cast<size_t>(i)];
  }
  return inverse;
}

}  // namespace

std::vector<float> normal_values(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

std::vector<float> correlated_hessian(int cols, int n_samples, uint64_t seed) {
  const int n_shared = std::max(1, cols / 8);
  const std::vector<float> shared = normal_values(at(n_shared, 0, cols), seed);
  const std::vector<float> strength = normal_values(at(n_samples, 0, n_shared), seed + 1);
  std::vector<float> x = normal_values(at(n_samples, 0, cols), seed + 2);
  for (int s = 0; s < n_samples; s++)
    for (int c = 0; c < cols; c++) {
      x[at(s, c, cols)] *= 0.3f;
      for (int k = 0; k < n_shared; k++)
        x[at(s, c, cols)] += strength[at(s, k, n_shared)] * shared[at(k, c, cols)];
    }
  std::vector<float> h(at(cols, 0, cols));
  for (int i = 0; i < cols; i++)
    for (int j = 0; j < cols; j++) {
      double sum = 0;
      for (int s = 0; s < n_samples; s++)
        sum += static_cast<double>(x[at(s, i, cols)]) * static_cast<double>(x[at(s, j, cols)]);
      h[at(i, j, cols)] = static_cast<float>(2 * sum / n_samples);
    }
  return h;
}

std::vector<double> slow_upper_factor(const std::vector<double>& h, int n) {
  const std::vector<double> lower = slow_cholesky(inverse_from_cholesky(slow_cholesky(h, n), n), n);
  std::vector<double> upper(lower.size());
  for (int i = 0; i < n; i++)
    for (int j = i; j < n; j++) upper[at(i, j, n)] = lower[at(j, i, n)];
  return upper;
}

QuantisedMatrix slow_gptq(const std::vector<float>& w, int rows, int cols,
                          const std::vector<float>& hessian, const GptqParams& params) {
  std::vector<int> order(static_cast<size_t>(cols));
  std::iota(order.begin(), order.end(), 0);
  const auto input = [&](int c) { return hessian[at(c, c, cols)]; };
  if (params.act_order)
    std::sort(order.begin(), order.end(), [&](int a, int b) { return input(a) > input(b); });
  std::vector<double> h(hessian.size());
  double mean = 0;
  for (int i = 0; i < cols; i++) mean += static_cast<double>(input(i)) / cols;
  for (int i = 0; i < cols; i++)
    for (int j = 0; j < cols; j++)
      h[at(i, j, cols)] =
          static_cast<double>(
              hessian[at(order[static_cast<size_t>(i)], order[static_cast<size_t>(j)], cols)]) +
          (i == j ? params.damp * mean : 0);
  const std::vector<double> factor = slow_upper_factor(h, cols);
  QuantisedMatrix out = make_quantised(params.grid, rows, cols);
  for (int r = 0; r < rows; r++) {
    std::vector<float> moved(w.begin() + static_cast<long>(at(r, 0, cols)),
                             w.begin() + static_cast<long>(at(r + 1, 0, cols)));
    const auto choose = [&](int c) {
      out.grids[at(r, c / out.group, out.n_groups())] =
          choose_grid(params.grid, std::span<const float>(moved).subspan(
                                       static_cast<size_t>(c), static_cast<size_t>(out.group)));
    };
    if (params.act_order)
      for (int c = 0; c < cols; c += out.group) choose(c);
    for (int i = 0; i < cols; i++) {
      const int c = order[static_cast<size_t>(i)];
      if (!params.act_order && c % out.group == 0) choose(c);
      const float x = moved[static_cast<size_t>(c)];
      const int code = out.grid(r, c).code(x);
      out.codes[at(r, c, cols)] = static_cast<uint8_t>(code);
      const float error =
          (x - out.grid(r, c).value(code)) / static_cast<float>(factor[at(i, i, cols)]);
      for (int j = i + 1; j < cols; j++)
        moved[static_cast<size_t>(order[static_cast<size_t>(j)])] -=
            error * static_cast<float>(factor[at(i, j, cols)]);
    }
  }
  return out;
}

}  // namespace hob::test
