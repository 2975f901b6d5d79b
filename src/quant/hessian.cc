#include "quant/hessian.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/linalg_axpy.h"

namespace hob {
namespace {

constexpr int kTaskRows = 8;
constexpr int kSumRows = 256;  // inputs that are summed in f32 before they join the f64 sum

size_t at(int row, int col, int n) {
  return static_cast<size_t>(row) * static_cast<size_t>(n) + static_cast<size_t>(col);
}

}  // namespace

HessianSum::HessianSum(int n_inputs)
    : n_(n_inputs), sum_(at(n_inputs, 0, n_inputs)), magnitude_(static_cast<size_t>(n_inputs)) {}

uint64_t HessianSum::bytes(int n_inputs) {
  const auto n = static_cast<uint64_t>(n_inputs);
  return (n * n + n) * sizeof(double);
}

void HessianSum::add(Mat x, ThreadPool& pool) {
  HOB_CHECK(x.cols == n_);
  pool.run((n_ + kTaskRows - 1) / kTaskRows, [&](int task) {
    std::vector<float> part(static_cast<size_t>(n_));
    for (int i = task * kTaskRows; i < std::min(n_, (task + 1) * kTaskRows); i++)
      for (int first = 0; first < x.rows; first += kSumRows) {
        std::fill(part.begin(), part.end(), 0.0f);
        for (int r = first; r < std::min(x.rows, first + kSumRows); r++) {
          add_scaled_to(x.row(r)[i], x.row(r) + i, part.data(), n_ - i);
          magnitude_[static_cast<size_t>(i)] += std::abs(static_cast<double>(x.row(r)[i]));
        }
        for (int j = i; j < n_; j++)
          sum_[at(i, j, n_)] += static_cast<double>(part[static_cast<size_t>(j - i)]);
      }
  });
  n_rows_ += x.rows;
}

void HessianSum::add(const HessianSum& other, double weight) {
  HOB_CHECK(other.n_ == n_);
  for (size_t i = 0; i < sum_.size(); i++) sum_[i] += weight * other.sum_[i];
  for (size_t i = 0; i < magnitude_.size(); i++) magnitude_[i] += weight * other.magnitude_[i];
  n_rows_ += weight * other.n_rows_;
}

std::vector<float> HessianSum::hessian() const {
  std::vector<float> h(sum_.size());
  const double scale = n_rows_ > 0 ? 2 / n_rows_ : 0;
  for (int i = 0; i < n_; i++)
    for (int j = i; j < n_; j++)
      h[at(i, j, n_)] = h[at(j, i, n_)] = static_cast<float>(scale * sum_[at(i, j, n_)]);
  return h;
}

std::vector<float> HessianSum::mean_magnitude() const {
  std::vector<float> mean(magnitude_.size());
  for (size_t i = 0; i < mean.size(); i++)
    mean[i] = n_rows_ > 0 ? static_cast<float>(magnitude_[i] / n_rows_) : 0;
  return mean;
}

}  // namespace hob
