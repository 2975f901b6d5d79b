#include "quant/rounding_error.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/round_row.h"
#include "tensor/dequant.h"
#include "tensor/quantise.h"

namespace hob {
namespace {

// The relative error of so many values is within a few percent of that of all: rows of a matrix
// are much alike, and the steps between types are factors of 2 to 4.
constexpr int64_t kSampleWeights = int64_t{1} << 17;
constexpr int64_t kLeastRows = 16;

}  // namespace

void round_plain(std::span<float> values) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<std::byte> blocks(row_bytes(DType::kQ4_0, n));
  quantise_row(DType::kQ4_0, values.data(), n, blocks.data());
  dequantise_row(DType::kQ4_0, blocks.data(), n, values.data());
}

void RoundingErrors::sample(const RawTensor& tensor) {
  const int64_t n_rows = tensor.shape.rows();
  n_cols_ = tensor.shape.cols();
  const int64_t n = std::min(n_rows, std::max(kLeastRows, kSampleWeights / n_cols_));
  const int64_t per_expert = tensor.shape.n_dims > 2 ? n_rows / tensor.shape[0] : n_rows;
  values_.resize(static_cast<size_t>(n * n_cols_));
  ones_.assign(static_cast<size_t>(n_cols_), 1.0f);
  of_rows_.clear();
  std::vector<std::byte> raw(row_bytes(tensor.dtype, n_cols_));
  for (int64_t i = 0; i < n; i++) {
    const int64_t row = i * n_rows / n;
    reader_.read(tensor, row, 1, raw);
    float* const to = values_.data() + i * n_cols_;
    dequantise_row(tensor.dtype, raw.data(), n_cols_, to);
    if (!std::all_of(to, to + n_cols_, [](float v) { return std::isfinite(v); }))
      fail(Code::kDataLoss, "[quantize] {}: expected finite weights, row {} has others",
           printable(tensor.name), row);
    of_rows_.push_back(importance_ ? importance_->find(tensor, row / per_expert) : nullptr);
  }
}

// round(row's values, its importance or nullptr, where the result goes): called by many threads.
template <class Round>
double RoundingErrors::error_of(const Round& round) {
  const auto n_cols = static_cast<size_t>(n_cols_);
  std::vector<double> errors(of_rows_.size()), sums(of_rows_.size());
  const int n_tasks = static_cast<int>(std::min<size_t>(of_rows_.size(), ThreadPool::kMaxTasks));
  pool_.run(n_tasks, [&](int task) {
    for (auto r = static_cast<size_t>(task); r < of_rows_.size();
         r += static_cast<size_t>(n_tasks)) {
      const std::span<const float> x = std::span(values_).subspan(r * n_cols, n_cols);
      std::vector<float> back(n_cols);
      round(x, of_rows_[r], back);
      const float* const w = of_rows_[r] ? of_rows_[r] : ones_.data();
      for (size_t c = 0; c < n_cols; c++) {
        const double value = static_cast<double>(x[c]), weight = static_cast<double>(w[c]);
        const double e = value - static_cast<double>(back[c]);
        errors[r] += weight * e * e;
        sums[r] += weight * value * value;
      }
    }
  });
  double error = 0, sum = 0;  // in the order of the rows
  for (size_t r = 0; r < errors.size(); r++) {
    error += errors[r];
    sum += sums[r];
  }
  return sum > 0 ? error / sum : 0;
}

std::vector<double> RoundingErrors::of(const RawTensor& tensor, std::span<const DType> types) {
  sample(tensor);
  std::vector<double> out;
  for (const DType type : types) {
    if (type == tensor.dtype) {
      out.push_back(0);
      continue;
    }
    out.push_back(error_of([&](std::span<const float> x, const float* w, std::vector<float>& back) {
      std::vector<std::byte> bytes(row_bytes(type, n_cols_));
      round_row(type, x, w, ones_.data(), bytes.data());
      dequantise_row(type, bytes.data(), n_cols_, back.data());
    }));
  }
  return out;
}

double RoundingErrors::of_plain(const RawTensor& tensor) {
  sample(tensor);
  return error_of([](std::span<const float> x, const float*, std::vector<float>& back) {
    std::copy(x.begin(), x.end(), back.begin());
    round_plain(back);
  });
}

}  // namespace hob
