#pragma once
// What a step works on: its rows and the activation buffers. Sized once for max_rows; nothing is
// allocated in a step.
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "base/aligned_buffer.h"
#include "model/batch.h"
#include "model/spec.h"

namespace hob {

// Activation buffers, row-major, max_rows rows each. Attention's and the FFN's never live at the
// same time and share memory. `top_k` may exceed the model's when a recorded routing is forced.
class Activations {
 public:
  Activations(const ModelSpec& spec, int max_rows, int top_k);
  static uint64_t bytes(const ModelSpec& spec, int max_rows, int top_k);

  // Buffers cut to n rows.
  Mat x(int n) const { return cut(x_, n); }          // residual stream [n, d_model]
  Mat norm(int n) const { return cut(norm_, n); }    // normalised input of a block [n, d_model]
  Mat block(int n) const { return cut(block_, n); }  // output of a block [n, d_model]
  Mat q(int n) const { return cut(q_, n); }          // [n, n_heads * d_k]
  Mat k(int n) const { return cut(k_, n); }          // [n, n_kv_heads * d_k]
  Mat v(int n) const { return cut(v_, n); }          // [n, n_kv_heads * d_v]
  Mat heads(int n) const { return cut(heads_, n); }  // attention's output [n, n_heads * d_v]
  // With MLA q and k are in the compressed space: [n, n_heads * (d_latent + d_rot)], one k.
  Mat head_q(int n) const { return cut(head_q_, n); }              // [n, n_heads * d_k]
  Mat latent_heads(int n) const { return cut(latent_heads_, n); }  // [n, n_heads * d_latent]
  Mat router(int n) const { return cut(router_, n); }              // router logits [n, n_experts]
  Mat shared_gate(int n) const { return cut(shared_gate_, n); }    // [n, 1]
  Mat parts(int n) const { return cut(parts_, n); }  // one row per (row, rank) [n * top_k, d_model]

 private:
  static Mat cut(Mat m, int n) {
    m.rows = n;
    return m;
  }
  uint64_t lay_out(const ModelSpec& spec, int max_rows, int top_k, std::byte* base);
  Activations() = default;

  AlignedBuffer storage_;
  Mat x_, norm_, block_, q_, k_, v_, heads_, head_q_, latent_heads_, router_, shared_gate_, parts_;
};

// The rows that a step still computes, and lists of one entry per row in the form that the backend
// takes.
class StepRows {
 public:
  explicit StepRows(int max_rows);
  void assign(const StepBatch& batch);
  // Drops the rows that nobody wants logits of; `x` and `q` lose the same rows.
  void keep_wanted(Mat x, Mat q);

  int n() const { return static_cast<int>(rows_.size()); }
  std::span<const StepRow> rows() const { return rows_; }
  std::span<const int32_t> all() const {
    return std::span(indices_).first(rows_.size());
  }  // 0..n-1
  int batch_row(int i) const { return batch_rows_[static_cast<size_t>(i)]; }
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> positions() const { return positions_; }
  std::span<const int32_t> write_slots() const { return write_slots_; }
  std::span<const AttnRow> attention() const { return attention_; }
  static uint64_t bytes_per_row();

 private:
  std::vector<StepRow> rows_;
  std::vector<int32_t> indices_;     // 0..max_rows-1
  std::vector<int32_t> batch_rows_;  // -> index in the batch
  std::vector<int32_t> tokens_, positions_, write_slots_;
  std::vector<AttnRow> attention_;
};

}  // namespace hob
