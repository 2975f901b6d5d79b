// Products with weights whose columns are in another order than the inputs (GPTQ's act-order): the
// inputs are put into that order first. An output's bits depend on its row alone, here too.
#include <algorithm>
#include <cstring>

#include "backend/cpu_backend.h"

namespace hob {
namespace {

// Rows of an FFN that are computed together: so many read the weights once.
constexpr int kRows = 64;

Mat rows_in(std::vector<float>& storage, int rows, int cols) {
  const size_t n = static_cast<size_t>(rows) * static_cast<size_t>(cols);
  if (storage.size() < n) storage.resize(n);
  return {storage.data(), rows, cols, cols};
}

}  // namespace

// Valid until the next call.
Mat CpuBackend::ordered(Mat x, const int32_t* order) {
  const Mat y = rows_in(ordered_, x.rows, x.cols);
  pool_.run(x.rows, [&](int r) {
    const float* from = x.row(r);
    float* to = y.row(r);
    for (int k = 0; k < x.cols; k++) to[k] = from[order[k]];
  });
  return y;
}

// Matrices that share an order (q, k and v) share the reordered input.
void CpuBackend::linear_ordered(Mat x, std::span<const LinearOut> outs) {
  for (size_t i = 0; i < outs.size(); i++) {
    const int32_t* order = outs[i].w.order;
    const auto is_same = [&](const LinearOut& o) { return o.w.order == order; };
    if (std::any_of(outs.begin(), outs.begin() + static_cast<ptrdiff_t>(i), is_same)) continue;
    same_order_.clear();
    std::copy_if(outs.begin() + static_cast<ptrdiff_t>(i), outs.end(),
                 std::back_inserter(same_order_), is_same);
    linear_as_is(order ? ordered(x, order) : x, same_order_);
  }
}

void CpuBackend::expert_ffn_ordered(Mat x, const ExpertGroup& g, GatedUnit act, Mat out) {
  const auto n = static_cast<int>(g.rows.size());
  for (int first = 0; first < n; first += kRows) {
    const int rows = std::min(kRows, n - first);
    const Mat in = rows_in(ordered_ffn_[0], rows, x.cols),
              gate = rows_in(ordered_ffn_[1], rows, g.gate.n_rows),
              up = rows_in(ordered_ffn_[2], rows, g.up.n_rows),
              y = rows_in(ordered_ffn_[3], rows, g.down.n_rows);
    const auto bytes = [](Mat m) { return static_cast<size_t>(m.cols) * sizeof(float); };
    const auto at = [&](int r) { return static_cast<size_t>(first + r); };
    for (int r = 0; r < rows; r++) std::memcpy(in.row(r), x.row(g.rows[at(r)]), bytes(in));
    const std::array<LinearOut, 2> pair{{{g.gate, g.gate_bias, gate}, {g.up, g.up_bias, up}}};
    linear(in, pair);
    pool_.run(rows, [&](int r) {
      kernels_.gated_unit[static_cast<size_t>(act)](gate.row(r), up.row(r), gate.cols, gate.row(r));
    });
    const std::array<LinearOut, 1> down{{{g.down, g.down_bias, y}}};
    linear(gate, down);
    for (int r = 0; r < rows; r++) std::memcpy(out.row(g.out_rows[at(r)]), y.row(r), bytes(y));
  }
}

size_t CpuBackend::order_scratch_bytes(int n_rows, int d_max) const {
  const auto row = static_cast<size_t>(d_max) * sizeof(float);
  return (static_cast<size_t>(n_rows) + ordered_ffn_.size() * kRows) * row;
}

}  // namespace hob
