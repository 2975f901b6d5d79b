#include "backend/cpu_backend.h"

#include <algorithm>
#include <array>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "backend/cpu_multiply.h"
#include "backend/cpu_route.h"
#include "base/cpu_info.h"
#include "base/error.h"
#include "kernels/layout.h"
#include "tensor/dequant.h"

namespace hob {
namespace {

std::vector<int> pin_cores(const CpuOptions& options) {
  std::vector<int> ids;
  if (options.pin)
    for (const Core& core : usable_cores()) ids.push_back(core.id);
  return ids;
}

}  // namespace

CpuBackend::CpuBackend(const CpuOptions& options)
    : kernels_(select_kernels(options.force_isa.empty() ? std::getenv("HOB_FORCE_ISA")
                                                        : options.force_isa.c_str())),
      pool_(options.n_threads > 0 ? options.n_threads : default_threads(), pin_cores(options)) {}

static_assert(kPartRows % kPanelRows == 0);

size_t CpuBackend::prepared_bytes(DType dtype, int rows, int cols) const {
  return hob::prepared_bytes(dtype, rows, cols);
}

void CpuBackend::prepare(DType dtype, int rows, int cols, const std::byte* stock,
                         std::byte* dst) const {
  prepare_weight(dtype, rows, cols, stock, dst);
}

void CpuBackend::embed(const Weight& w, std::span<const int32_t> ids, Mat y) {
  const size_t n_bytes = row_bytes(w.dtype, w.n_cols);
  pool_.run(static_cast<int>(ids.size()), [&](int i) {
    thread_local std::vector<std::byte> row;
    row.resize(n_bytes);
    const int id = ids[static_cast<size_t>(i)];
    HOB_CHECK(id >= 0 && id < w.n_rows);
    extract_row(w.dtype, w.n_cols, w.data, id, row.data());
    dequantise_row(w.dtype, row.data(), w.n_cols, y.row(i));
  });
}

// x in 8-bit blocks: as norm_input() left it, or made now.
const ActRow* CpuBackend::quantised_rows(Mat x) {
  if (x.data == norm_of_.data && x.rows <= norm_of_.rows) return norm_acts_.rows();
  acts_.resize(x.rows, x.cols);
  pool_.run(x.rows, [&](int r) { kernels_.quantise_row(x.row(r), x.cols, acts_.mutable_row(r)); });
  return acts_.rows();
}

void CpuBackend::linear(Mat x, std::span<const LinearOut> outs) {
  if (x.rows == 0) return;
  const bool plain =
      std::none_of(outs.begin(), outs.end(), [](const LinearOut& o) { return o.w.order; });
  plain ? linear_as_is(x, outs) : linear_ordered(x, outs);
}

void CpuBackend::linear_as_is(Mat x, std::span<const LinearOut> outs) {
  const ActRow* acts = nullptr;
  if (std::any_of(outs.begin(), outs.end(), [](const LinearOut& o) { return quantised(o.w); }))
    acts = quantised_rows(x);
  x_rows_.resize(static_cast<size_t>(x.rows));
  for (int r = 0; r < x.rows; r++) x_rows_[static_cast<size_t>(r)] = x.row(r);
  run_linear(outs, x.rows, acts, 0);
}

void CpuBackend::linear_heads(Mat x, int x_step, const HeadWeights& w, int n_heads, Mat y,
                              int y_step) {
  if (x.rows == 0) return;
  HOB_CHECK(!w.first.order);
  const int d_in = w.first.n_cols;
  x_rows_.clear();
  head_outs_.clear();
  for (int h = 0; h < n_heads; h++) {
    Weight own = w.first;
    own.data += static_cast<size_t>(h) * w.stride;
    head_outs_.push_back({own, nullptr, {y.data + h * y_step, y.rows, own.n_rows, y.stride}});
    for (int r = 0; r < x.rows; r++) x_rows_.push_back(x.row(r) + h * x_step);
  }
  const ActRow* acts = nullptr;
  if (quantised(w.first)) {
    acts_.resize(x.rows * n_heads, d_in);
    pool_.run(x.rows * n_heads, [&](int i) {
      kernels_.quantise_row(x_rows_[static_cast<size_t>(i)], d_in, acts_.mutable_row(i));
    });
    acts = acts_.rows();
  }
  run_linear(head_outs_, x.rows, acts, x.rows);
}

// Output i has the n inputs of x_rows_ (and acts) from i * n_apart on.
void CpuBackend::run_linear(std::span<const LinearOut> outs, int n, const ActRow* acts,
                            int n_apart) {
  n_rows_.clear();
  for (const LinearOut& o : outs) n_rows_.push_back(o.w.n_rows);
  const int max_rows = n <= kStreamTokens ? INT_MAX : kTileRows;
  split_rows(n_rows_, {n_threads(), kPanelRows, max_rows}, chunks_);
  tasks_.clear();
  const int tile = token_tile(n);
  for (int t0 = 0; t0 < n; t0 += tile)
    for (const RowChunk& c : chunks_)
      tasks_.push_back({c.matrix, c.first, c.count, t0, std::min(tile, n - t0)});
  pool_.run(static_cast<int>(tasks_.size()), [&](int i) {
    const GroupTask& task = tasks_[static_cast<size_t>(i)];
    const LinearOut& out = outs[static_cast<size_t>(task.group)];
    const int at = task.group * n_apart + task.token0;
    linear_task(out, quantised(out.w) ? acts + at : nullptr, x_rows_.data() + at, task);
  });
}

void CpuBackend::linear_task(const LinearOut& o, const ActRow* acts, const float* const* x,
                             const GroupTask& task) {
  // A last panel that is not full would overrun y: it goes through a buffer.
  const int tail = quantised(o.w) ? task.count % kPanelRows : 0, whole = task.count - tail;
  if (whole > 0)
    multiply_rows(kernels_, o.w, task.first, whole, acts, x, task.n_tokens,
                  o.y.row(task.token0) + task.first, static_cast<size_t>(o.y.stride));
  std::array<float, kPanelRows * kTokenTile> padded;
  if (tail > 0)
    multiply_rows(kernels_, o.w, task.first + whole, tail, acts, x, task.n_tokens, padded.data(),
                  kPanelRows);
  for (int t = 0; t < task.n_tokens; t++) {
    float* row = o.y.row(task.token0 + t) + task.first;
    if (tail > 0)
      std::memcpy(row + whole, padded.data() + t * kPanelRows, static_cast<size_t>(tail) * 4);
    if (o.bias)
      for (int r = 0; r < task.count; r++) row[r] += o.bias[task.first + r];
  }
}

void CpuBackend::rms_norm(Mat x, const float* w, float eps, Mat y) {
  pool_.run(x.rows, [&](int r) { kernels_.rms_norm(x.row(r), w, x.cols, eps, y.row(r)); });
}

void CpuBackend::norm_input(Mat x, const Norm& norm, Mat y) {
  norm_of_ = {};
  const bool to_blocks = x.cols % kActBlock == 0;  // quantised weights are never otherwise
  if (to_blocks) norm_acts_.resize(x.rows, x.cols);
  pool_.run(x.rows, [&](int r) {
    if (norm.centred) {
      kernels_.layer_norm(x.row(r), norm.w, norm.bias, x.cols, norm.eps, y.row(r));
    } else {
      kernels_.rms_norm(x.row(r), norm.w, x.cols, norm.eps, y.row(r));
      if (norm.bias) kernels_.add(norm.bias, x.cols, y.row(r));
    }
    if (to_blocks) kernels_.quantise_row(y.row(r), x.cols, norm_acts_.mutable_row(r));
  });
  if (to_blocks) norm_of_ = y;
}

void CpuBackend::rms_norm_heads(Mat x, int n_heads, const float* w, float eps) {
  const int d = x.cols / n_heads;
  pool_.run(x.rows, [&](int r) {
    for (int h = 0; h < n_heads; h++)
      kernels_.rms_norm(x.row(r) + h * d, w, d, eps, x.row(r) + h * d);
  });
}

void CpuBackend::rope(Mat x, int n_heads, int d_head, std::span<const int32_t> positions,
                      const RopeTable& table) {
  const int half = table.d_rot / 2;
  // Element i of a pair sits at i * step, its partner `partner` further.
  const int step = table.kind == RopeKind::kAdjacent ? 2 : 1,
            partner = table.kind == RopeKind::kAdjacent ? 1 : half;
  pool_.run(x.rows, [&](int r) {
    const int position = positions[static_cast<size_t>(r)];
    HOB_CHECK(position >= 0 && position < table.n_positions);
    const float* c = table.cos + static_cast<size_t>(position) * static_cast<size_t>(half);
    const float* s = table.sin + static_cast<size_t>(position) * static_cast<size_t>(half);
    for (int h = 0; h < n_heads; h++) {
      float* v = x.row(r) + h * d_head;
      for (int i = 0; i < half; i++) {
        const float a = v[i * step], b = v[i * step + partner];
        v[i * step] = a * c[i] - b * s[i];
        v[i * step + partner] = a * s[i] + b * c[i];
      }
    }
  });
}

void CpuBackend::kv_write(const KvLayer& layer, std::span<const int32_t> write_slots, Mat k,
                          Mat v) {
  const auto write = kernels_.kv_write[static_cast<size_t>(layer.type)];
  const auto store = [&](std::byte* base, int slot, int d, bool is_k, const float* from) {
    const size_t bytes = kv_block_bytes(layer.type, d);
    std::byte* block =
        base + static_cast<size_t>(slot / kKvBlock) * static_cast<size_t>(layer.n_kv_heads) * bytes;
    for (int h = 0; h < layer.n_kv_heads; h++, block += bytes)
      write(from + h * d, d, slot % kKvBlock, is_k, block);
  };
  pool_.run(k.rows, [&](int r) {
    store(layer.k, write_slots[static_cast<size_t>(r)], layer.d_k, true, k.row(r));
    store(layer.v, write_slots[static_cast<size_t>(r)], layer.d_v, false, v.row(r));
  });
}

// Rows that one task takes together: neighbours of one sequence, up to kMaxAttnQueries query
// vectors.
void CpuBackend::make_attention_tasks(std::span<const AttnRow> rows, int n_group) {
  const int most = std::max(1, kMaxAttnQueries / n_group);
  attention_tasks_.clear();
  for (int r = 0; r < static_cast<int>(rows.size()); r++) {
    const AttnRow& row = rows[static_cast<size_t>(r)];
    if (!attention_tasks_.empty()) {
      RowRange& last = attention_tasks_.back();
      const AttnRow& head = rows[static_cast<size_t>(last.first)];
      if (last.count < most && head.slots == row.slots) {
        last.count++;
        continue;
      }
    }
    attention_tasks_.push_back({r, 1});
  }
}

void CpuBackend::attention(const KvLayer& layer, Mat q, const AttnParams& params,
                           std::span<const AttnRow> rows, Mat out) {
  HOB_CHECK(layer.d_k <= kMaxKvWidth && layer.d_v <= kMaxKvWidth);
  const int group = params.n_heads / layer.n_kv_heads;
  make_attention_tasks(rows, group);
  const size_t k_bytes = kv_block_bytes(layer.type, layer.d_k),
               v_bytes = kv_block_bytes(layer.type, layer.d_v);
  const int d_v = params.d_latent_v > 0 ? params.d_latent_v : layer.d_v;
  const int n_ranges = static_cast<int>(attention_tasks_.size());
  // One decoded row of a latent has a single KV head: its query heads are shared out, so that no
  // thread is idle.
  const int n_whole = n_ranges * layer.n_kv_heads;
  const int n_parts = std::clamp(n_threads() / std::max(n_whole, 1), 1, group);
  pool_.run(n_whole * n_parts, [&](int task) {
    // Later rows of a prefill see more positions: start with them, so that the last tasks are
    // short.
    const int whole = task / n_parts, part = task % n_parts;
    const RowRange& range =
        attention_tasks_[static_cast<size_t>(n_ranges - 1 - whole / layer.n_kv_heads)];
    const int h = whole % layer.n_kv_heads;
    const int first_head = h * group + group * part / n_parts,
              last_head = h * group + group * (part + 1) / n_parts;
    std::array<AttnQuery, kMaxAttnQueries> queries;
    AttnKernelArgs a;
    a.queries = queries.data();
    a.k = layer.k + static_cast<size_t>(h) * k_bytes;
    a.v = layer.v + static_cast<size_t>(h) * v_bytes;
    a.k_stride = static_cast<size_t>(layer.n_kv_heads) * k_bytes;
    a.v_stride = static_cast<size_t>(layer.n_kv_heads) * v_bytes;
    a.slots = rows[static_cast<size_t>(range.first)].slots;
    a.d_k = layer.d_k;
    a.d_v = d_v;
    a.v_in_k = params.d_latent_v > 0;
    a.scale = params.scale;
    const auto attend = [&] {
      kernels_.attention[static_cast<size_t>(layer.type)](a);
      a.n_queries = 0;
    };
    for (int r = range.first; r < range.first + range.count; r++) {
      const AttnRow& row = rows[static_cast<size_t>(r)];
      for (int g = first_head; g < last_head; g++) {
        if (a.n_queries == kMaxAttnQueries) attend();  // a row with more heads than that
        queries[static_cast<size_t>(a.n_queries++)] = {
            .q = q.row(r) + g * layer.d_k,
            .out = out.row(r) + g * d_v,
            .n_visible = row.n_visible,
            .first =
                params.window > 0 ? std::max(row.first, row.n_visible - params.window) : row.first,
            .sink = params.sinks ? params.sinks[g] : -INFINITY};
      }
    }
    attend();
  });
}

void CpuBackend::add(Mat x, Mat y) {
  pool_.run(x.rows, [&](int r) { kernels_.add(x.row(r), x.cols, y.row(r)); });
}

void CpuBackend::add_scaled(Mat x, float a, Mat y) {
  pool_.run(x.rows, [&](int r) { kernels_.axpy(a, x.row(r), x.cols, y.row(r)); });
}

void CpuBackend::scale(float a, Mat x) {
  pool_.run(x.rows, [&](int r) {
    for (int i = 0; i < x.cols; i++) x.row(r)[i] *= a;
  });
}

void CpuBackend::route(Mat logits, const RouteRule& rule, int32_t* ids, float* weights) {
  HOB_CHECK(rule.k <= logits.cols && (rule.kind != Router::kSparseMixer || rule.k <= 2));
  pool_.run(logits.rows, [&](int r) {
    const size_t at = static_cast<size_t>(r) * static_cast<size_t>(rule.k);
    route_row(kernels_, logits.row(r), logits.cols, rule, ids + at, weights + at);
  });
}

void CpuBackend::combine(Mat parts, const float* weights, int k, Mat y) {
  pool_.run(y.rows, [&](int r) {
    for (int i = 0; i < k; i++)
      kernels_.axpy(weights[r * k + i], parts.row(r * k + i), y.cols, y.row(r));
  });
}

void CpuBackend::add_gated(Mat x, Mat gate, Mat y) {
  pool_.run(y.rows, [&](int r) {
    float pair[2] = {gate.row(r)[0], 0.f};  // sigmoid(g) is the softmax of (g, 0)
    kernels_.softmax(pair, 2);
    kernels_.axpy(pair[0], x.row(r), y.cols, y.row(r));
  });
}

size_t CpuBackend::scratch_bytes(int n_rows, int d_max) const {
  const size_t row = ActBuffer::row_bytes(ceil_div(d_max, kActBlock) * kActBlock) + sizeof(ActRow) +
                     sizeof(float*);
  return 2 * row * static_cast<size_t>(n_rows);  // acts_ and norm_acts_
}

size_t CpuBackend::expert_scratch_bytes(int n_rows, int d_hidden, DType down) const {
  const size_t hidden = dtype_info(down).quantised() ? ActBuffer::row_bytes(d_hidden)
                                                     : static_cast<size_t>(d_hidden) * 4;
  // Per row: its hidden vector, the gathered pointers, and at worst (one row per expert) its own
  // tasks.
  const size_t tasks = static_cast<size_t>(ceil_div(d_hidden, kActBlock)) * sizeof(GroupTask);
  return (hidden + 2 * sizeof(ActRow) + sizeof(float*)) * static_cast<size_t>(n_rows) + tasks * 256;
}

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace hob
