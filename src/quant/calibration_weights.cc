#include "quant/calibration_weights.h"

#include <algorithm>

#include "base/error.h"
#include "tensor/dequant.h"
#include "tensor/quantise.h"

namespace hob {
namespace {

constexpr uint64_t kPieceBytes = 4u << 20;

}  // namespace

std::vector<float> WeightReader::values(const RawTensor& t, int64_t first, int64_t n) const {
  const int64_t n_cols = t.shape.cols();
  HOB_CHECK(first >= 0 && n >= 0 && first + n <= t.shape.n_elements());
  const int64_t first_row = first / n_cols, end_row = (first + n + n_cols - 1) / n_cols;
  const int64_t n_read = (end_row - first_row) * n_cols;
  std::vector<std::byte> bytes(row_bytes(t.dtype, n_read));
  rows_.read(t, first_row, end_row - first_row, bytes);
  std::vector<float> out(static_cast<size_t>(n_read));
  dequantise_row(t.dtype, bytes.data(), n_read, out.data());
  const int64_t before = first - first_row * n_cols;
  out.erase(out.begin(), out.begin() + before);
  out.resize(static_cast<size_t>(n));
  return out;
}

void WeightReader::copy(const RawTensor& t,
                        const std::function<void(std::span<const std::byte>)>& sink) const {
  const size_t row = row_bytes(t.dtype, t.shape.cols());
  const auto per_piece = std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes / row));
  std::vector<std::byte> bytes;
  for (int64_t done = 0; done < t.shape.rows(); done += per_piece) {
    const int64_t n = std::min(per_piece, t.shape.rows() - done);
    bytes.resize(static_cast<size_t>(n) * row);
    rows_.read(t, done, n, bytes);
    sink(bytes);
  }
}

std::vector<std::byte> to_bytes(DType type, std::span<const float> values) {
  HOB_CHECK(!dtype_info(type).quantised());
  std::vector<std::byte> bytes(row_bytes(type, static_cast<int64_t>(values.size())));
  quantise_row(type, values.data(), static_cast<int64_t>(values.size()), bytes.data());
  return bytes;
}

}  // namespace hob
