#include "kernels/layout.h"

#include <cstring>
#include <initializer_list>

#include "base/error.h"
#include "kernels/table.h"

namespace hob {
namespace {

// A run of units of one row's stock block, in the order in which panels store them.
struct Field {
  int offset;  // in the stock block
  int n_bytes;
  int unit;  // bytes of one row that stay together
};
struct BlockFields {
  DType type = DType::kF32;
  int n_fields = 0;
  Field fields[52] = {};
  constexpr void add(int offset, int n_bytes, int unit) {
    fields[n_fields++] = {offset, n_bytes, unit};
  }
};

constexpr BlockFields simple(DType type, std::initializer_list<Field> fields) {
  BlockFields b;
  b.type = type;
  for (const Field& f : fields) b.add(f.offset, f.n_bytes, f.unit);
  return b;
}

// Codes travel in units of 4 (one dot-product group), f16 numbers in 2, byte scales in 1. Scales
// first, then the codes in the order in which the kernel reads them: where a code has bits in two
// places the lines alternate, because one linear stream runs at memory speed and three do not (Q6_K
// in file order: 8 GB/s on a core that reads 25).
constexpr BlockFields fields_q6k() {
  BlockFields b = simple(DType::kQ6_K, {{192, 16, 1}, {208, 2, 2}});
  for (int half = 0; half < 2; half++)
    for (int u = 0; u < 8; u++) {
      b.add(64 * half + 4 * u, 4, 4);
      b.add(64 * half + 32 + 4 * u, 4, 4);
      b.add(128 + 32 * half + 4 * u, 4, 4);
    }
  return b;
}
constexpr BlockFields fields_q5k() {
  BlockFields b = simple(DType::kQ5_K, {{0, 4, 2}, {4, 12, 1}});
  for (int u = 0; u < 8; u++) {
    b.add(16 + 4 * u, 4, 4);
    b.add(48 + 4 * u, 4, 4);
  }
  b.add(48 + 32, 96, 4);
  return b;
}
constexpr BlockFields fields_q3k() {
  BlockFields b = simple(DType::kQ3_K, {{96, 12, 1}, {108, 2, 2}});
  for (int u = 0; u < 8; u++) {
    b.add(4 * u, 4, 4);
    b.add(32 + 4 * u, 4, 4);
  }
  b.add(32 + 32, 32, 4);
  return b;
}

constexpr BlockFields kFields[] = {
    simple(DType::kQ4_0, {{0, 2, 2}, {2, 16, 4}}),
    simple(DType::kQ4_1, {{0, 4, 2}, {4, 16, 4}}),
    simple(DType::kQ5_0, {{0, 2, 2}, {2, 4, 4}, {6, 16, 4}}),
    simple(DType::kQ5_1, {{0, 4, 2}, {4, 4, 4}, {8, 16, 4}}),
    simple(DType::kQ8_0, {{0, 2, 2}, {2, 32, 4}}),
    simple(DType::kQ2_K, {{80, 4, 2}, {0, 16, 1}, {16, 64, 4}}),
    fields_q3k(),
    simple(DType::kQ4_K, {{0, 4, 2}, {4, 12, 1}, {16, 128, 4}}),
    fields_q5k(),
    fields_q6k(),
    simple(DType::kIQ4_NL, {{0, 2, 2}, {2, 16, 4}}),
    simple(DType::kIQ4_XS, {{0, 4, 2}, {4, 4, 1}, {8, 128, 4}}),
    simple(DType::kMXFP4, {{0, 1, 1}, {1, 16, 4}}),
    simple(DType::kQ2_1, {{0, 4, 2}, {4, 8, 4}}),
    simple(DType::kQ3_0, {{0, 2, 2}, {2, 8, 4}, {10, 4, 4}}),
    simple(DType::kG2, {{0, 2, 2}, {2, 1, 1}, {3, 8, 4}}),
    simple(DType::kG3, {{0, 2, 2}, {2, 1, 1}, {3, 8, 4}, {11, 4, 4}}),
    simple(DType::kG4, {{0, 2, 2}, {2, 1, 1}, {3, 16, 4}}),
    simple(DType::kG8, {{0, 2, 2}, {2, 1, 1}, {3, 32, 4}}),
};

const BlockFields& fields_of(DType type) {
  for (const BlockFields& f : kFields)
    if (f.type == type) return f;
  HOB_CHECK(!"a quantised type without a layout row");
  return kFields[0];
}

template <int kUnit>
void interleave(const std::byte* stock, size_t stride, int n_rows, int n_units, std::byte* out) {
  for (int u = 0; u < n_units; u++)
    for (int r = 0; r < n_rows; r++)
      std::memcpy(out + (static_cast<size_t>(u) * kPanelRows + static_cast<size_t>(r)) * kUnit,
                  stock + static_cast<size_t>(r) * stride + static_cast<size_t>(u) * kUnit, kUnit);
}

template <int kUnit>
void deinterleave(const std::byte* in, size_t stride, int n_rows, int n_units, std::byte* stock) {
  for (int u = 0; u < n_units; u++)
    for (int r = 0; r < n_rows; r++)
      std::memcpy(stock + static_cast<size_t>(r) * stride + static_cast<size_t>(u) * kUnit,
                  in + (static_cast<size_t>(u) * kPanelRows + static_cast<size_t>(r)) * kUnit,
                  kUnit);
}

// Applies `op<unit>(stock position, panel position, units)` to every field of every block of one
// panel.
template <class Op>
void for_fields(DType type, int cols, const Op& op) {
  const DTypeInfo& info = dtype_info(type);
  const BlockFields& layout = fields_of(type);
  size_t panel_at = 0;
  for (int b = 0; b < cols / info.block; b++)
    for (int i = 0; i < layout.n_fields; i++) {
      const Field& f = layout.fields[i];
      op(f, static_cast<size_t>(b * info.block_bytes + f.offset), panel_at);
      panel_at += static_cast<size_t>(f.n_bytes) * kPanelRows;
    }
}

// A full panel has its row count as a constant, so that the inner loop becomes straight loads and
// stores.
template <int kUnit>
void interleave_rows(const std::byte* stock, size_t stride, int n_rows, int n_units,
                     std::byte* out) {
  if (n_rows == kPanelRows)
    interleave<kUnit>(stock, stride, kPanelRows, n_units, out);
  else
    interleave<kUnit>(stock, stride, n_rows, n_units, out);
}

}  // namespace

size_t panel_bytes(DType type, int cols) { return row_bytes(type, cols) * kPanelRows; }

size_t prepared_bytes(DType type, int rows, int cols) {
  if (!dtype_info(type).quantised()) return row_bytes(type, cols) * static_cast<size_t>(rows);
  return panel_bytes(type, cols) * static_cast<size_t>((rows + kPanelRows - 1) / kPanelRows);
}

void prepare_weight(DType type, int rows, int cols, const std::byte* stock, std::byte* prepared) {
  const size_t stride = row_bytes(type, cols);
  if (!dtype_info(type).quantised()) {
    std::memcpy(prepared, stock, stride * static_cast<size_t>(rows));
    return;
  }
  for (int r0 = 0; r0 < rows; r0 += kPanelRows) {
    const int n = rows - r0 < kPanelRows ? rows - r0 : kPanelRows;
    const std::byte* from = stock + static_cast<size_t>(r0) * stride;
    std::byte* to = prepared + static_cast<size_t>(r0) * stride;
    if (n < kPanelRows) std::memset(to, 0, stride * kPanelRows);
    for_fields(type, cols, [&](const Field& f, size_t stock_at, size_t panel_at) {
      const int n_units = f.n_bytes / f.unit;
      if (f.unit == 4) interleave_rows<4>(from + stock_at, stride, n, n_units, to + panel_at);
      if (f.unit == 2) interleave_rows<2>(from + stock_at, stride, n, n_units, to + panel_at);
      if (f.unit == 1) interleave_rows<1>(from + stock_at, stride, n, n_units, to + panel_at);
    });
  }
}

void unprepare_weight(DType type, int rows, int cols, const std::byte* prepared, std::byte* stock) {
  const size_t stride = row_bytes(type, cols);
  for (int r = 0; r < rows; r++)
    extract_row(type, cols, prepared, r, stock + static_cast<size_t>(r) * stride);
}

void extract_row(DType type, int cols, const std::byte* prepared, int row, std::byte* stock_row) {
  const size_t stride = row_bytes(type, cols);
  if (!dtype_info(type).quantised()) {
    std::memcpy(stock_row, prepared + static_cast<size_t>(row) * stride, stride);
    return;
  }
  const int lane = row % kPanelRows;
  const std::byte* panel = prepared + static_cast<size_t>(row - lane) * stride;
  for_fields(type, cols, [&](const Field& f, size_t stock_at, size_t panel_at) {
    const std::byte* from =
        panel + panel_at + static_cast<size_t>(lane) * static_cast<size_t>(f.unit);
    const int n_units = f.n_bytes / f.unit;
    if (f.unit == 4) deinterleave<4>(from, 0, 1, n_units, stock_row + stock_at);
    if (f.unit == 2) deinterleave<2>(from, 0, 1, n_units, stock_row + stock_at);
    if (f.unit == 1) deinterleave<1>(from, 0, 1, n_units, stock_row + stock_at);
  });
}

}  // namespace hob
