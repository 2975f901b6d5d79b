#include "model/layers/step.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace hob {
namespace {

// Hands out rows of floats from a block of memory, or only counts when there is none yet.
class Carver {
 public:
  Carver(std::byte* base, uint64_t at) : base_(base), at_(at) {}
  Mat take(int64_t rows, int cols) {
    const Mat m{base_ ? reinterpret_cast<float*>(base_ + at_) : nullptr, static_cast<int>(rows),
                cols, cols};
    constexpr uint64_t kAlign = 64;
    const uint64_t n = static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols) * sizeof(float);
    at_ += (n + kAlign - 1) / kAlign * kAlign;
    return m;
  }
  uint64_t at() const { return at_; }

 private:
  std::byte* base_;
  uint64_t at_;
};

void move_row(Mat m, int from, int to) {
  if (from != to) std::memcpy(m.row(to), m.row(from), static_cast<size_t>(m.cols) * sizeof(float));
}

}  // namespace

Activations::Activations(const ModelSpec& spec, int max_rows, int top_k)
    : storage_(bytes(spec, max_rows, top_k)) {
  lay_out(spec, max_rows, top_k, storage_.data());
}

uint64_t Activations::bytes(const ModelSpec& spec, int max_rows, int top_k) {
  return Activations().lay_out(spec, max_rows, top_k, nullptr);
}

uint64_t Activations::lay_out(const ModelSpec& spec, int max_rows, int top_k, std::byte* base) {
  Carver common(base, 0);
  x_ = common.take(max_rows, spec.d_model);
  norm_ = common.take(max_rows, spec.d_model);
  block_ = common.take(max_rows, spec.d_model);

  const AttnSpec& a = spec.attn;
  Carver attention(base, common.at());
  if (a.d_latent > 0) {
    const int d = a.d_latent + spec.rope.d_rot;
    q_ = attention.take(max_rows, a.n_heads * d);
    k_ = attention.take(max_rows, d);
    head_q_ = attention.take(max_rows, a.n_heads * a.d_k);
    latent_heads_ = attention.take(max_rows, a.n_heads * a.d_latent);
  } else {
    q_ = attention.take(max_rows, a.n_heads * a.d_k);
    k_ = attention.take(max_rows, a.n_kv_heads * a.d_k);
    v_ = attention.take(max_rows, a.n_kv_heads * a.d_v);
  }
  heads_ = attention.take(max_rows, a.n_heads * a.d_v);

  Carver ffn(base, common.at());
  if (spec.is_moe()) {
    router_ = ffn.take(max_rows, spec.moe.n_experts);
    shared_gate_ = ffn.take(max_rows, 1);
    parts_ = ffn.take(static_cast<int64_t>(max_rows) * top_k, spec.d_model);
  }
  return std::max(attention.at(), ffn.at());
}

StepRows::StepRows(int max_rows) {
  const size_t n = static_cast<size_t>(max_rows);
  rows_.reserve(n);
  indices_.resize(n);
  std::iota(indices_.begin(), indices_.end(), 0);
  batch_rows_.reserve(n);
  tokens_.reserve(n);
  positions_.reserve(n);
  write_slots_.reserve(n);
  attention_.reserve(n);
}

uint64_t StepRows::bytes_per_row() {
  return sizeof(StepRow) + 5 * sizeof(int32_t) + sizeof(AttnRow);
}

void StepRows::assign(const StepBatch& batch) {
  rows_.assign(batch.rows.begin(), batch.rows.end());
  batch_rows_.clear();
  tokens_.clear();
  positions_.clear();
  write_slots_.clear();
  attention_.clear();
  for (const StepRow& r : rows_) {
    HOB_CHECK(r.position >= 0 && static_cast<size_t>(r.position) < r.kv_read.size());
    batch_rows_.push_back(static_cast<int32_t>(batch_rows_.size()));
    tokens_.push_back(r.token);
    positions_.push_back(r.position);
    write_slots_.push_back(r.kv_write_slot);
    attention_.push_back({r.kv_read.data(), 0, r.position + 1});
  }
}

void StepRows::keep_wanted(Mat x, Mat q) {
  int kept = 0;
  for (int i = 0; i < n(); i++) {
    const size_t from = static_cast<size_t>(i), to = static_cast<size_t>(kept);
    if (!rows_[from].want_logits) continue;
    move_row(x, i, kept);
    move_row(q, i, kept);
    rows_[to] = rows_[from];
    batch_rows_[to] = batch_rows_[from];
    attention_[to] = attention_[from];
    kept++;
  }
  // Tokens, positions and write slots were used up before.
  rows_.resize(static_cast<size_t>(kept));
  batch_rows_.resize(static_cast<size_t>(kept));
  attention_.resize(static_cast<size_t>(kept));
}

}  // namespace hob
