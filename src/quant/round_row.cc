#include "quant/round_row.h"

#include <algorithm>

#include "tensor/quantise.h"
#include "tensor/quantise_search.h"

namespace hob {
namespace {

// With up to 3 bits a large weight matters more than its share (quantise_search.h says by how
// much); with more bits plain squared error is the better guide.
bool prefers_equal(DType type) { return type != DType::kQ2_K && type != DType::kQ3_K; }

}  // namespace

void round_row(DType type, std::span<const float> values, const float* importance,
               const float* ones, std::byte* dst) {
  const auto n = static_cast<int64_t>(values.size());
  if (!dtype_info(type).quantised()) return quantise_row(type, values.data(), n, dst);
  if (importance == nullptr && prefers_equal(type)) importance = ones;
  quantise_row_search(type, values.data(), n, importance, dst);
}

std::vector<std::byte> round_rows(DType type, std::span<const float> values, int64_t n_cols,
                                  ThreadPool& pool) {
  const auto width = static_cast<size_t>(n_cols), n_rows = values.size() / width;
  const size_t bytes = row_bytes(type, n_cols);
  const std::vector<float> ones(width, 1.0f);
  std::vector<std::byte> out(n_rows * bytes);
  const size_t n_tasks = std::min(n_rows, 16 * static_cast<size_t>(pool.n_threads()));
  pool.run(static_cast<int>(n_tasks), [&](int task) {
    const auto t = static_cast<size_t>(task);
    for (size_t row = n_rows * t / n_tasks; row < n_rows * (t + 1) / n_tasks; row++)
      round_row(type, values.subspan(row * width, width), nullptr, ones.data(),
                out.data() + row * bytes);
  });
  return out;
}

}  // namespace hob
