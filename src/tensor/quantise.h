#pragma once
// Reference quantisers: round to nearest, no search for better scales. For tests and for tools that
// make files. Up to Q8_0 the bytes equal those of the Python package `gguf`; Q4_K and Q6_K are a
// plain min/max version and lose a little more than ggml's.
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace hob {

bool can_quantise(DType type);  // F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q6_K

// Writes row_bytes(type, n) bytes to `dst` (any alignment); n must be a multiple of the type's
// block. Throws Error(kUnimplemented) for the other types.
void quantise_row(DType type, const float* src, int64_t n, std::byte* dst);

}  // namespace hob
