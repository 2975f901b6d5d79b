#include "quant/gptq_grid.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tensor/half.h"

namespace hob {
namespace {

float through_half(float x) { return f16_to_f32(f32_to_f16(x)); }

// The grid that spans [low, high], with low <= 0 <= high unless the kind has free offsets.
GroupGrid spanning(const GridParams& params, float low, float high) {
  const int max_code = (1 << params.bits) - 1;
  GroupGrid g{.max_code = max_code};
  if (params.kind == GridKind::kSymmetric) {
    const float largest = std::max(-low, high);
    g.scale = through_half(2 * largest / static_cast<float>(max_code));
    g.zero = 1 << (params.bits - 1);
    return g;
  }
  g.scale = through_half((high - low) / static_cast<float>(max_code));
  if (params.kind == GridKind::kOffset)
    g.offset = through_half(low);
  else
    g.zero = g.scale > 0 ? std::clamp(static_cast<int>(std::lround(-low / g.scale)),
                                      params.least_zero, max_code)
                         : params.least_zero;
  return g;
}

float error_of(const GroupGrid& g, std::span<const float> w, std::span<const float> importance) {
  float total = 0;
  for (size_t i = 0; i < w.size(); i++) {
    const float error = std::abs(w[i] - g.value(g.code(w[i])));
    const float powered = std::pow(error, 2.4f);
    total += importance.empty() ? powered : powered * importance[i];
  }
  return total;
}

}  // namespace

void check_grid(const GridParams& params, int n_cols) {
  if (params.bits < 2 || params.bits > 8)
    fail(Code::kInvalidArgument, "[quant] bits: expected 2 to 8, got {}", params.bits);
  const int group = group_of(params, n_cols);
  if (params.group < 0 || group <= 0 || n_cols % group != 0)
    fail(Code::kInvalidArgument,
         "[quant] group: expected a divisor of the row's {} weights, got {}", n_cols, params.group);
  if (params.max_shrink < 0 || params.max_shrink > 90)
    fail(Code::kInvalidArgument, "[quant] max_shrink: expected 0 to 90, got {}", params.max_shrink);
}

int GroupGrid::code(float w) const {
  if (!(scale > 0)) return zero;  // all weights of the group are one value
  const float q = std::nearbyint((w - offset) / scale) + static_cast<float>(zero);
  return static_cast<int>(std::clamp(q, 0.0f, static_cast<float>(max_code)));
}

GroupGrid choose_grid(const GridParams& params, std::span<const float> w,
                      std::span<const float> importance) {
  const auto [least, most] = std::minmax_element(w.begin(), w.end());
  const bool free_offset = params.kind == GridKind::kOffset;
  const float low = free_offset ? *least : std::min(*least, 0.0f);
  const float high = free_offset ? *most : std::max(*most, 0.0f);
  GroupGrid best = spanning(params, low, high);
  if (params.max_shrink == 0) return best;
  float best_error = error_of(best, w, importance);
  const float middle = free_offset ? (low + high) / 2 : 0;
  for (int i = 1; i <= params.max_shrink; i++) {
    const float kept = 1 - 0.01f * static_cast<float>(i);
    const GroupGrid tried =
        spanning(params, middle + (low - middle) * kept, middle + (high - middle) * kept);
    const float error = error_of(tried, w, importance);
    if (!(error < best_error)) continue;
    best = tried;
    best_error = error;
  }
  return best;
}

std::vector<float> QuantisedMatrix::dequantise() const {
  std::vector<float> out(codes.size());
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < cols; c++) {
      const size_t i = static_cast<size_t>(r) * static_cast<size_t>(cols) + static_cast<size_t>(c);
      out[i] = grid(r, c).value(codes[i]);
    }
  return out;
}

QuantisedMatrix make_quantised(const GridParams& params, int rows, int cols) {
  check_grid(params, cols);
  QuantisedMatrix q{.rows = rows,
                    .cols = cols,
                    .bits = params.bits,
                    .group = group_of(params, cols),
                    .kind = params.kind,
                    .codes = {},
                    .grids = {}};
  q.codes.resize(static_cast<size_t>(rows) * static_cast<size_t>(cols));
  q.grids.resize(static_cast<size_t>(rows) * static_cast<size_t>(q.n_groups()));
  return q;
}

}  // namespace hob
