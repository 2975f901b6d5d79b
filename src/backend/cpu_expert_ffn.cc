// The routed experts of a layer: rows grouped by expert, each expert's weights read once.
#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cpu_backend.h"
#include "backend/cpu_multiply.h"

namespace hob {
namespace {

// y += bias[first .. first + n), null: nothing.
void add_bias(const float* bias, int first, int n, float* y) {
  if (bias)
    for (int i = 0; i < n; i++) y[i] += bias[first + i];
}

}  // namespace

void CpuBackend::make_tasks(std::span<const ExpertGroup> groups, int rows_of(const ExpertGroup&),
                            int unit) {
  n_rows_.clear();
  int most_tokens = 1;
  for (const ExpertGroup& g : groups) {
    n_rows_.push_back(rows_of(g));
    most_tokens = std::max(most_tokens, static_cast<int>(g.rows.size()));
  }
  // The outputs of a task fit in its buffer.
  const int max_rows = kTaskOutputs / std::min(most_tokens, kTokenTile) / unit * unit;
  split_rows(n_rows_, {n_threads(), unit, max_rows}, chunks_);
  tasks_.clear();
  for (const RowChunk& c : chunks_) {
    const int n = static_cast<int>(groups[static_cast<size_t>(c.matrix)].rows.size());
    const int tile = token_tile(n);
    for (int t0 = 0; t0 < n; t0 += tile)
      tasks_.push_back({c.matrix, c.first, c.count, t0, std::min(tile, n - t0)});
  }
}

void CpuBackend::expert_ffn(Mat x, std::span<const ExpertGroup> groups, GatedUnit act, Mat out) {
  const auto plain = [](const ExpertGroup& g) {
    return !g.gate.order && !g.up.order && !g.down.order;
  };
  while (!groups.empty()) {  // orders are of whole layers: one turn, but for a mixture
    size_t n = 0;
    while (n < groups.size() && plain(groups[n])) n++;
    if (n > 0)
      expert_ffn_as_is(x, groups.first(n), act, out);
    else
      expert_ffn_ordered(x, groups[0], act, out);
    groups = groups.subspan(std::max<size_t>(n, 1));
  }
}

void CpuBackend::expert_ffn_as_is(Mat x, std::span<const ExpertGroup> groups, GatedUnit act,
                                  Mat out) {
  group_first_.clear();
  int n_gathered = 0;
  bool any_quantised = false, down_quantised = false, down_float = false;
  for (const ExpertGroup& g : groups) {
    group_first_.push_back(n_gathered);
    n_gathered += static_cast<int>(g.rows.size());
    any_quantised |= quantised(g.gate) || quantised(g.up);
    (quantised(g.down) ? down_quantised : down_float) = true;
  }
  const int d_hidden = groups[0].gate.n_rows;
  const ActRow* acts = any_quantised ? quantised_rows(x) : nullptr;
  if (down_quantised) hidden_acts_.resize(n_gathered, d_hidden);
  const size_t hidden_bytes = static_cast<size_t>(n_gathered) * static_cast<size_t>(d_hidden) * 4;
  if (down_float && hidden_.size() < hidden_bytes) hidden_ = AlignedBuffer(hidden_bytes);
  gathered_.resize(static_cast<size_t>(n_gathered));
  gathered_f32_.resize(static_cast<size_t>(n_gathered));
  size_t at = 0;
  for (const ExpertGroup& g : groups)
    for (int32_t r : g.rows) {
      if (any_quantised) gathered_[at] = acts[r];
      gathered_f32_[at++] = x.row(r);
    }

  make_tasks(
      groups, [](const ExpertGroup& g) { return g.gate.n_rows; }, kActBlock);
  pool_.run(static_cast<int>(tasks_.size()), [&](int i) {
    const GroupTask& task = tasks_[static_cast<size_t>(i)];
    expert_hidden(groups[static_cast<size_t>(task.group)], act, task);
  });
  if (down_float) {  // the second half reads the hidden rows instead of x
    float* h = reinterpret_cast<float*>(hidden_.data());
    for (size_t r = 0; r < gathered_f32_.size(); r++)
      gathered_f32_[r] = h + r * static_cast<size_t>(d_hidden);
  }
  make_tasks(
      groups, [](const ExpertGroup& g) { return g.down.n_rows; }, kPanelRows);
  pool_.run(static_cast<int>(tasks_.size()), [&](int i) {
    const GroupTask& task = tasks_[static_cast<size_t>(i)];
    expert_down(groups[static_cast<size_t>(task.group)], task, out);
  });
}

// Whole activation blocks of the hidden vector per task, so that the task that computes them also
// quantises them.
void CpuBackend::expert_hidden(const ExpertGroup& group, GatedUnit act, const GroupTask& task) {
  std::array<float, kTaskOutputs> gate, up;
  const int row0 = group_first_[static_cast<size_t>(task.group)] + task.token0;
  const ActRow* acts = gathered_.data() + row0;
  const float* const* rows = gathered_f32_.data() + row0;
  const int stride = ceil_div(task.count, kActBlock) * kActBlock;
  multiply_rows(kernels_, group.gate, task.first, task.count, acts, rows, task.n_tokens,
                gate.data(), static_cast<size_t>(stride));
  multiply_rows(kernels_, group.up, task.first, task.count, acts, rows, task.n_tokens, up.data(),
                static_cast<size_t>(stride));
  const bool to_blocks = quantised(group.down);
  const size_t d_hidden = static_cast<size_t>(group.gate.n_rows),
               first = static_cast<size_t>(task.first);
  for (int t = 0; t < task.n_tokens; t++) {
    float *g = gate.data() + t * stride, *u = up.data() + t * stride;
    add_bias(group.gate_bias, task.first, task.count, g);
    add_bias(group.up_bias, task.first, task.count, u);
    kernels_.gated_unit[static_cast<size_t>(act)](g, u, task.count, g);
    if (to_blocks) {
      const MutableActRow h = hidden_acts_.mutable_row(row0 + t);
      kernels_.quantise_row(
          g, task.count,
          {h.q + first, h.d + first / 32, h.dsum + first / 32, h.sum16 + first / 16});
    } else {
      float* h = reinterpret_cast<float*>(hidden_.data()) +
                 static_cast<size_t>(row0 + t) * d_hidden + first;
      std::memcpy(h, g, static_cast<size_t>(task.count) * 4);
    }
  }
}

void CpuBackend::expert_down(const ExpertGroup& group, const GroupTask& task, Mat out) {
  std::array<float, kTaskOutputs> y;
  const int row0 = group_first_[static_cast<size_t>(task.group)] + task.token0;
  const int stride = ceil_div(task.count, kPanelRows) * kPanelRows;
  multiply_rows(kernels_, group.down, task.first, task.count,
                quantised(group.down) ? hidden_acts_.rows() + row0 : nullptr,
                gathered_f32_.data() + row0, task.n_tokens, y.data(), static_cast<size_t>(stride));
  for (int t = 0; t < task.n_tokens; t++) {
    add_bias(group.down_bias, task.first, task.count, y.data() + t * stride);
    std::memcpy(out.row(group.out_rows[static_cast<size_t>(task.token0 + t)]) + task.first,
                y.data() + t * stride, static_cast<size_t>(task.count) * 4);
  }
}

}  // namespace hob
