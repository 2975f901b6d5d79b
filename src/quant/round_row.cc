#include "quant/round_row.h"

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

}  // namespace hob
