#include "engine/machine_probe.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>

#include "base/align.h"
#include "base/aligned_buffer.h"
#include "base/async_file.h"
#include "base/error.h"

namespace hob {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Plain numbers in every element type: as f32 1.1e-28, as f16 6e-4, as integers 17; no denormals,
// which would be slow.
constexpr int kFill = 0x11;

AlignedBuffer filled_pool(size_t n_bytes) {
  AlignedBuffer pool(n_bytes, /*huge_pages=*/true);
  std::memset(pool.data(), kFill, n_bytes);
  return pool;
}

// Median seconds of `work`, repeated for about `budget` seconds, at least three times, after one
// warm-up.
double median_seconds(double budget, const std::function<void()>& work) {
  work();
  std::vector<double> times;
  const auto begin = Clock::now();
  while (times.size() < 3 || (seconds_since(begin) < budget && times.size() < 1000)) {
    const auto start = Clock::now();
    work();
    times.push_back(seconds_since(start));
  }
  std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// Activations [rows, cols] of ones-like values.
struct Activations {
  Activations(int rows, int cols)
      : buffer(static_cast<size_t>(rows) * static_cast<size_t>(cols) * sizeof(float)),
        mat{reinterpret_cast<float*>(buffer.data()), rows, cols, cols} {
    for (size_t i = 0; i < static_cast<size_t>(rows) * static_cast<size_t>(cols); i++)
      mat.data[i] = 0.01f * static_cast<float>(i % 101) - 0.5f;
  }
  AlignedBuffer buffer;
  Mat mat;
};

// Cuts a pool into prepared experts.
class ExpertPool {
 public:
  ExpertPool(const Backend& backend, const ExpertLayer& layer, size_t pool_bytes) : layer_(&layer) {
    for (size_t part = 0; part < 3; part++) {
      const ExpertMatrix& m = layer.parts[part];
      offset_[part] = stride_;
      stride_ += round_up(backend.prepared_bytes(m.dtype, m.rows, m.cols), 64);
    }
    n_ = std::max<size_t>(2, pool_bytes / stride_);
    pool_ = filled_pool(n_ * stride_);
  }
  size_t size() const { return n_; }
  size_t stride() const { return stride_; }
  Weight weight(size_t expert, size_t part) const {
    const ExpertMatrix& m = layer_->parts[part];
    return {m.dtype, m.rows, m.cols, pool_.data() + expert % n_ * stride_ + offset_[part]};
  }

 private:
  const ExpertLayer* layer_;
  size_t offset_[3] = {}, stride_ = 0, n_ = 0;
  AlignedBuffer pool_;
};

// Seconds of one expert_ffn call over `n_groups` experts with `rows_each` rows each, cycling
// through the pool.
double expert_call_seconds(Backend& backend, const ExpertPool& pool, const ExpertLayer& layer,
                           int n_groups, int rows_each) {
  const int n_rows = n_groups * rows_each;
  Activations x(rows_each, layer.parts[kGate].cols);
  Activations out(n_rows, layer.parts[kDown].rows);
  std::vector<int32_t> rows(static_cast<size_t>(rows_each)), out_rows(static_cast<size_t>(n_rows));
  for (size_t i = 0; i < rows.size(); i++) rows[i] = static_cast<int32_t>(i);
  for (size_t i = 0; i < out_rows.size(); i++) out_rows[i] = static_cast<int32_t>(i);
  size_t next = 0;
  return median_seconds(0.06, [&] {
    std::vector<ExpertGroup> groups;
    for (int g = 0; g < n_groups; g++, next++)
      groups.push_back({.gate = pool.weight(next, kGate),
                        .up = pool.weight(next, kUp),
                        .down = pool.weight(next, kDown),
                        .rows = rows,
                        .out_rows = std::span(out_rows).subspan(static_cast<size_t>(g * rows_each),
                                                                rows.size())});
    backend.expert_ffn(x.mat, groups, GatedUnit::kSilu, out.mat);
  });
}

}  // namespace

size_t probe_pool_bytes(uint64_t budget_bytes) {
  return std::clamp<size_t>(budget_bytes / 4, 1 << 20, 96 << 20);
}

DiskProbe measure_disk_bandwidth(const ExpertGeometry& geometry,
                                 const ExpertCacheOptions& options) {
  std::vector<ReadOp> candidates;
  size_t largest = 0;
  for (const ExpertLayer& layer : geometry.layers)
    for (const ExpertMatrix& m : layer.parts)
      for (int e = 0; e < layer.n_experts; e++) {
        const ExpertReads reads = m.reads_of(e);
        for (const ByteRange& r : reads.ranges()) {
          const size_t n_bytes = round_up(r.n_bytes, kIoAlign);
          candidates.push_back({.file = r.file,
                                .offset = r.offset / kIoAlign * kIoAlign,
                                .n_bytes = n_bytes,
                                .n_required = 1});
          largest = std::max(largest, n_bytes);
        }
      }
  if (candidates.empty()) return {};
  std::shuffle(candidates.begin(), candidates.end(), std::mt19937_64(7));

  const auto depth = static_cast<size_t>(options.io_depth);
  AlignedBuffer buffer(depth * largest);
  const auto reader = make_async_reader(
      geometry.files,
      {.depth = options.io_depth, .direct_io = options.direct_io, .use_uring = options.use_uring});
  size_t next = 0;
  const auto measure_window = [&] {
    size_t n_in_flight = 0;
    uint64_t bytes = 0;
    const auto submit = [&](uint64_t slot) {
      ReadOp op = candidates[next++ % candidates.size()];
      op.dst = buffer.data() + slot * largest;
      op.tag = slot;
      bytes += op.n_bytes;
      n_in_flight++;
      reader->submit({&op, 1});
    };
    const auto start = Clock::now();
    for (uint64_t slot = 0; slot < depth; slot++) submit(slot);
    double elapsed = 0;
    while (n_in_flight > 0) {
      for (const ReadDone& done : reader->wait()) {
        if (done.error) std::rethrow_exception(done.error);
        n_in_flight--;
        elapsed = seconds_since(start);
        if (elapsed < 0.2) submit(done.tag);
      }
    }
    return static_cast<double>(bytes) / std::max(elapsed, 1e-9);
  };
  // The median of three: a disk that flushes somebody's writes can stand still for seconds.
  std::array<double, 3> rates;
  for (double& rate : rates) rate = measure_window();
  std::sort(rates.begin(), rates.end());
  return {.bytes_per_s = rates[1], .direct = reader->direct(0)};
}

ProductRate measure_linear(Backend& backend, const LinearProbe& probe, size_t pool_bytes) {
  const DType dtype = probe.dtype;
  const int d_out = probe.d_out, d_in = probe.d_in;
  const size_t stride = round_up(backend.prepared_bytes(dtype, d_out, d_in), 64);
  const size_t n = std::clamp<size_t>(pool_bytes / stride, 1, 4096);
  const AlignedBuffer pool = filled_pool(n * stride);
  const auto weight = [&](size_t i) {
    return Weight{dtype, d_out, d_in, pool.data() + i % n * stride};
  };
  const auto call_seconds = [&](int rows) {
    Activations x(rows, d_in), y(rows, d_out);
    size_t next = 0;
    return median_seconds(0.03, [&] {
      const LinearOut out{weight(next++), nullptr, y.mat};
      backend.linear(x.mat, {&out, 1});
    });
  };
  const double macs = static_cast<double>(d_out) * d_in * probe.chunk;
  return {.decode_bytes_per_s = static_cast<double>(stride) / call_seconds(1),
          .prefill_macs_per_s = macs / call_seconds(probe.chunk)};
}

ProductRate measure_experts(Backend& backend, const ExpertLayer& layer, const ExpertProbe& probe,
                            size_t pool_bytes) {
  const ExpertPool pool(backend, layer, pool_bytes);
  double weights = 0;
  for (const ExpertMatrix& m : layer.parts) weights += static_cast<double>(m.rows) * m.cols;
  const double decode = expert_call_seconds(backend, pool, layer, probe.k, 1);
  const int n_groups = std::min<int>(8, layer.n_experts);
  const double prefill = expert_call_seconds(backend, pool, layer, n_groups, probe.rows_per_expert);
  return {.decode_bytes_per_s = static_cast<double>(pool.stride()) * probe.k / decode,
          .prefill_macs_per_s = weights * n_groups * probe.rows_per_expert / prefill};
}

double measure_layer_overhead(Backend& backend, int d_model, int n_experts, int top_k) {
  Activations x(1, d_model), y(1, d_model), parts(std::max(1, top_k), d_model),
      logits(1, std::max(1, n_experts));
  const std::vector<float> norm(static_cast<size_t>(d_model), 1.f);
  std::vector<int32_t> ids(static_cast<size_t>(std::max(1, top_k)));
  std::vector<float> weights(ids.size());
  return median_seconds(0.02, [&] {
    for (int i = 0; i < 4; i++)
      backend.rms_norm(x.mat, norm.data(), 1e-5f, y.mat);  // two norms, Q and K norms
    backend.add(x.mat, y.mat);
    if (n_experts == 0) return;
    backend.route(logits.mat, {.k = top_k, .renormalise = true}, ids.data(), weights.data());
    backend.combine(parts.mat, weights.data(), top_k, y.mat);
  });
}

}  // namespace hob
