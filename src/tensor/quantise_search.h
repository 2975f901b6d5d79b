#pragma once
// Quantisers for files and low-precision copies: a search for the scales (and minima) that minimise
// sum w_j (x_j - x^_j)^2, group by group. Slower than quantise_row and with less error.
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace hob {

bool can_quantise_search(DType type);  // all but F32 F16 BF16; Q8_0 plain

// Writes row_bytes(type, n) bytes to `dst` (any alignment); n must be a multiple of the type's
// block. A NaN weight becomes 0, one beyond the largest half (65504) that half. Deterministic: the
// bytes do not depend on the machine. Throws Error(kUnimplemented) for other types.
//
// `importance`: [n], > 0, of any scale; one that is not a positive finite number counts as next to
// nothing. nullptr: rms(block) + |x_j|. That costs a few percent of plain squared error, but a
// large weight matters more than its share. Mean KL of the demo model, all experts low, 2047
// tokens, this and equal importance: 2 bits 2.25, 2.59; 3 bits 0.47, 0.52; 4 bits 0.079, 0.075.
// More is too much: |x_j| 3.21, x_j^2 4.60 at 2 bits.
void quantise_row_search(DType type, const float* src, int64_t n, const float* importance,
                         std::byte* dst);

// The type of a low-precision copy with rows of `cols` weights; bits per weight in brackets.
//   bits  cols % 256 == 0   cols % 32 == 0
//   4     Q4_K  (4.5)       Q4_0 (4.5)
//   3     Q3_K  (3.4375)    Q3_0 (3.5)
//   2     Q2_K  (2.625)     Q2_1 (3.0)
// Throws Error(kInvalidArgument) for other bits or widths.
DType low_type(int bits, int cols);

}  // namespace hob
