#pragma once
// One row rounded as `hob quantize` does it, with or without importance.
#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace hob {

// `importance`: a weight per value, or nullptr for none; `ones`: as many numbers 1. Writes
// row_bytes(type, values.size()) bytes to `dst`. What is not finite is as quantise_row_search() has
// it.
void round_row(DType type, std::span<const float> values, const float* importance,
               const float* ones, std::byte* dst);

}  // namespace hob
