#include "quant/awq.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/gptq.h"

namespace hob {
namespace {

constexpr int kSearchRows = 64;  // of each matrix
constexpr int kExponents = 20;
constexpr float kExponentStep = 0.05f;

std::vector<float> scales_of(std::span<const float> magnitude, float exponent) {
  std::vector<float> s(magnitude.size());
  for (size_t c = 0; c < s.size(); c++)
    s[c] = std::max(std::pow(std::max(magnitude[c], 0.0f), exponent), 1e-4f);
  const auto [least, most] = std::minmax_element(s.begin(), s.end());
  const float middle = std::sqrt(*least * *most);
  for (float& x : s) x = std::max(x / middle, 1e-4f);
  return s;
}

// Evenly spaced rows of a matrix.
std::vector<float> sample_rows(const AwqMatrix& m, size_t cols, int& n_rows) {
  n_rows = std::min(m.rows, kSearchRows);
  std::vector<float> rows;
  rows.reserve(static_cast<size_t>(n_rows) * cols);
  for (int i = 0; i < n_rows; i++) {
    const auto r = static_cast<size_t>(static_cast<int64_t>(i) * m.rows / n_rows);
    rows.insert(rows.end(), m.w.begin() + static_cast<ptrdiff_t>(r * cols),
                m.w.begin() + static_cast<ptrdiff_t>((r + 1) * cols));
  }
  return rows;
}

double error_with(std::span<const float> rows, int n_rows, std::span<const float> s,
                  const std::vector<float>& hessian, const GridParams& grid, ThreadPool& pool) {
  const size_t cols = s.size();
  std::vector<float> scaled(rows.begin(), rows.end());
  for (size_t i = 0; i < scaled.size(); i++) scaled[i] *= s[i % cols];
  const auto n_cols = static_cast<int>(cols);
  std::vector<float> back =
      awq_quantise(scaled, n_rows, n_cols, scaled_hessian(hessian, s), grid, pool).dequantise();
  for (size_t i = 0; i < back.size(); i++) back[i] /= s[i % cols];
  return output_error(rows, back, n_rows, n_cols, hessian, pool);
}

}  // namespace

AwqScales awq_search(std::span<const AwqMatrix> matrices, std::span<const float> magnitude,
                     const GridParams& grid, ThreadPool& pool) {
  HOB_CHECK(!matrices.empty());
  AwqScales best;
  std::vector<double> errors(kExponents);
  for (const AwqMatrix& m : matrices) {
    int n_rows = 0;
    const std::vector<float> rows = sample_rows(m, magnitude.size(), n_rows);
    for (int i = 0; i < kExponents; i++)
      errors[static_cast<size_t>(i)] +=
          error_with(rows, n_rows, scales_of(magnitude, kExponentStep * static_cast<float>(i)),
                     *m.hessian, grid, pool) *
          m.rows / n_rows;
  }
  const auto least = std::min_element(errors.begin(), errors.end());
  best.exponent = kExponentStep * static_cast<float>(least - errors.begin());
  best.s = scales_of(magnitude, best.exponent);
  best.error = *least;
  best.plain_error = errors[0];
  return best;
}

QuantisedMatrix awq_quantise(std::span<const float> w, int rows, int cols,
                             std::span<const float> hessian, const GridParams& grid,
                             ThreadPool& pool) {
  std::vector<float> importance(static_cast<size_t>(cols));
  for (size_t c = 0; c < importance.size(); c++)
    importance[c] = hessian[c * static_cast<size_t>(cols) + c];
  return rtn_quantise(w, rows, cols, grid, pool, importance);
}

std::vector<float> scaled_hessian(std::span<const float> hessian, std::span<const float> s) {
  std::vector<float> out(hessian.size());
  const size_t n = s.size();
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j < n; j++) out[i * n + j] = hessian[i * n + j] / (s[i] * s[j]);
  return out;
}

}  // namespace hob
