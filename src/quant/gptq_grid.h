#pragma once
// The values that a group of quantised weights can take, exactly as a file stores them: scales (and
// offsets) are f16 before any code is chosen.
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace hob {

enum class GridKind : uint8_t {
  kSymmetric,  // scale * (q - 2^(bits-1)): Q4_0, Q3_0, GPTQ files with sym
  kZeroPoint,  // scale * (q - zero), zero in 0 .. 2^bits - 1: GPTQ and AWQ files
  kOffset,     // scale * q + offset: Q4_1, Q2_1
};

struct GridParams {
  int bits = 4;    // 2 .. 8
  int group = 32;  // weights of a row that share a scale; 0 = the whole row
  GridKind kind = GridKind::kOffset;
  // The range is also tried with 1/100, 2/100 ... so many hundredths cut off; 0 = the plain minimum
  // and maximum.
  int max_shrink = 20;
  int least_zero = 0;  // of kZeroPoint; 1 for files that store it less one
};

// Throws Error naming what is wrong.
void check_grid(const GridParams& params, int n_cols);
inline int group_of(const GridParams& params, int n_cols) {
  return params.group > 0 ? params.group : n_cols;
}

struct GroupGrid {
  float scale = 0, offset = 0;
  int zero = 0, max_code = 0;

  float value(int code) const { return scale * static_cast<float>(code - zero) + offset; }
  int code(float w) const;  // the nearest
};

// The grid with the least sum of weight * |error|^2.4 over a group; `importance`: empty = 1 each.
// The exponent, from the GPTQ authors' code, keeps large errors away more than squares would.
GroupGrid choose_grid(const GridParams& params, std::span<const float> w,
                      std::span<const float> importance = {});

// A matrix as codes. Row r, column c belongs to grids[r * n_groups() + c / group].
struct QuantisedMatrix {
  int rows = 0, cols = 0, bits = 0, group = 0;
  GridKind kind = GridKind::kOffset;
  std::vector<uint8_t> codes;  // [rows, cols]
  std::vector<GroupGrid> grids;

  int n_groups() const { return cols / group; }
  const GroupGrid& grid(int row, int col) const {
    return grids[static_cast<size_t>(row) * static_cast<size_t>(n_groups()) +
                 static_cast<size_t>(col / group)];
  }
  std::vector<float> dequantise() const;
};

QuantisedMatrix make_quantised(const GridParams& params, int rows, int cols);

}  // namespace hob
