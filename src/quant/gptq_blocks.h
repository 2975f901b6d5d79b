#pragma once
// Codes as the 32-weight blocks of GGUF files.
#include <optional>
#include <vector>

#include "quant/gptq_grid.h"
#include "tensor/dtype.h"

namespace hob {

// The type that holds such codes exactly; nothing when GGUF has none.
std::optional<DType> block_type(const GridParams& params);

// The grid of such a type, all else as in `like`; nothing for types whose values are no such grid.
std::optional<GridParams> grid_of(DType type, const GridParams& like);

// Appends the matrix in that type. The values that a reader gets are those of dequantise().
void append_blocks(const QuantisedMatrix& q, DType type, std::vector<std::byte>& out);

}  // namespace hob
