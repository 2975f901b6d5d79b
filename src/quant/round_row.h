#pragma once
// Rows rounded as `hob quantize` does it, with or without importance.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/dtype.h"

namespace hob {

// `importance`: a weight per value, or nullptr for none; `ones`: as many numbers 1. Writes
// row_bytes(type, values.size()) bytes to `dst`. What is not finite is as quantise_row_search() has
// it.
void round_row(DType type, std::span<const float> values, const float* importance,
               const float* ones, std::byte* dst);

// Rows of n_cols values each, without importance. `type` must fit the rows (type_for_width()).
std::vector<std::byte> round_rows(DType type, std::span<const float> values, int64_t n_cols,
                                  ThreadPool& pool);

}  // namespace hob
