#pragma once
// Reference dequantisers: one plain loop per type, written for reading. Kernels are tested against
// them.
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace hob {

// dst[0..n) = the values of `n` elements stored at `src` (any alignment); n must be a multiple of
// the type's block.
void dequantise_row(DType type, const std::byte* src, int64_t n, float* dst);

}  // namespace hob
