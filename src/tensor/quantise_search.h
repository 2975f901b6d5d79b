#pragma once
// STAND-IN until the searched quantisers are merged.
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace hob {

void quantise_row_search(DType type, const float* src, int64_t n, const float* importance,
                         std::byte* dst);
DType low_type(int bits, int cols);

}  // namespace hob
