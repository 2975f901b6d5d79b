#pragma once
// Prepared layout of quantised weights ("R16"): rows are taken in panels of 16; inside a panel,
// block after block along K; inside a block the runs of layout.cc, unit after unit;
// and of each unit the 16 rows side by side. A 4-byte unit of the codes then fills 64 bytes: 16
// rows x 4 consecutive codes, what one dot-product instruction wants. A permutation of the stock
// bytes (unprepare() is its inverse); the last panel is padded with zero rows. Float types keep
// stock row order. Ref: docs/adr/0003.
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace hob {

size_t prepared_bytes(DType type, int rows, int cols);
void prepare_weight(DType type, int rows, int cols, const std::byte* stock, std::byte* prepared);
void unprepare_weight(DType type, int rows, int cols, const std::byte* prepared, std::byte* stock);
// Stock bytes of one row out of a prepared weight (embedding look-up).
void extract_row(DType type, int cols, const std::byte* prepared, int row, std::byte* stock_row);
size_t panel_bytes(DType type, int cols);

}  // namespace hob
