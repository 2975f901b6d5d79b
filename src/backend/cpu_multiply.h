#pragma once
// Tile sizes of the CPU backend's matrix products, and the call of the kernel that fits a weight.
#include "backend/backend.h"
#include "base/error.h"
#include "kernels/layout.h"
#include "kernels/table.h"

namespace hob {

// Rows of activations that one task multiplies with its weights: enough to spread the unpacking of
// a weight tile, few enough that their 8-bit blocks (64 x 2 KiB) stay in a 256 KiB L2 beside it.
inline constexpr int kTokenTile = 64;
// Up to here a product streams its weights once and is bound by memory: long tasks. Beyond, a task
// is 64 outputs x 64 inputs.
inline constexpr int kStreamTokens = 4, kTileRows = 64;
// Outputs of one task that go through a buffer on the stack (16 KiB): 64 rows x 64 tokens.
inline constexpr int kTaskOutputs = kTileRows * kTokenTile;

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Even tiles: 70 rows are 36 + 34, because 64 + 6 would unpack the weights once more for 6. A
// multiple of 4 keeps the kernels' blocks of rows whole.
inline int token_tile(int n) { return ceil_div(ceil_div(n, ceil_div(n, kTokenTile)), 4) * 4; }

inline KernelTable::MulRows float_kernel(const KernelTable& kernels, DType type) {
  switch (type) {
    case DType::kF32:
      return kernels.mul_rows_f32;
    case DType::kF16:
      return kernels.mul_rows_f16;
    case DType::kBF16:
      return kernels.mul_rows_bf16;
    default:
      HOB_CHECK(!"not a float type");
      return nullptr;
  }
}

inline bool quantised(const Weight& w) { return dtype_info(w.dtype).quantised(); }

// y[t][0..n_rows) = rows [first, first + n_rows) of w times n inputs; `first` is a multiple of the
// panel height. Writes whole panels: y needs room for n_rows rounded up to 16.
inline void multiply_rows(const KernelTable& kernels, const Weight& w, int first, int n_rows,
                          const ActRow* acts, const float* const* x, int n, float* y,
                          size_t y_stride) {
  if (quantised(w)) {
    const std::byte* panels =
        w.data + panel_bytes(w.dtype, w.n_cols) * static_cast<size_t>(first / kPanelRows);
    kernels.mul_panels[static_cast<size_t>(w.dtype)](panels, w.n_cols, ceil_div(n_rows, kPanelRows),
                                                     acts, n, y, y_stride);
  } else {
    const std::byte* rows = w.data + row_bytes(w.dtype, w.n_cols) * static_cast<size_t>(first);
    float_kernel(kernels, w.dtype)(rows, w.n_cols, n_rows, x, n, y, y_stride);
  }
}

}  // namespace hob
