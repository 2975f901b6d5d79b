// Speed of every kernel of the table, per instruction set, on one thread.
//   cmake --preset release -DHOB_BENCH=ON && ninja -C build/release bench_kernels &&
//   build/release/bench/bench_kernels [--benchmark_filter=avx512/mul/Q4_K]
//
// Counters: GB/s (bytes that the kernel reads and writes), GMAC/s (10^9 multiply-adds), and %peak:
// the time that the bytes would take at the rate of the stream loop, or the multiply-adds at the
// rate of the bare instruction (both measured at the start), whichever is longer, over the time
// taken. Rows of weights up to 16 activations stream through more than the caches hold, as decoding
// does; more rows work on one matrix. Kernels of single rows work in the cache, so they may exceed
// 100 % of the stream loop.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "backend/compute_peaks.h"
#include "base/aligned_buffer.h"
#include "engine/machine_probe.h"
#include "kernels/layout.h"
#include "kernels/table.h"

namespace {

using namespace hob;

struct Isa {
  const KernelTable* kernels;
  double stream_bytes_per_s, dot_macs_per_s, fma_macs_per_s;
};

struct Work {  // of one iteration
  double bytes = 0, dot_macs = 0, fma_macs = 0;
};

// Repeats `body`, which does `w` each time.
template <class F>
void measure(benchmark::State& state, const Isa& isa, const Work& w, F body) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    body();
    benchmark::ClobberMemory();
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
      static_cast<double>(state.iterations());
  const double macs = w.dot_macs + w.fma_macs;
  const double least_s =
      std::max(w.bytes / isa.stream_bytes_per_s,
               w.dot_macs / isa.dot_macs_per_s + w.fma_macs / isa.fma_macs_per_s);
  state.counters["%peak"] = least_s / seconds * 100;
  state.counters["GB/s"] = w.bytes / seconds * 1e-9;
  if (macs > 0) state.counters["GMAC/s"] = macs / seconds * 1e-9;
}

// Bytes that are small normal numbers as f16, bf16 and f32 (0x10.. to 0x1f.. in the top byte): no
// denormals, which would be slow, and codes of all kinds.
AlignedBuffer random_bytes(size_t n) {
  AlignedBuffer buffer(n, /*huge_pages=*/true);
  uint32_t x = 1;
  for (size_t i = 0; i < n; i++)
    buffer.data()[i] = static_cast<std::byte>(0x10 | (x = x * 1664525 + 1013904223) >> 28);
  return buffer;
}

std::vector<float> ramp(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; i++) x[i] = 0.01f * static_cast<float>(i % 101) - 0.5f;
  return x;
}

constexpr int kWidth = 2048;  // of all matrices and rows: a d_model of today
constexpr int kRows[] = {1, 2, 4, 8, 16, 128};
constexpr int kMostStreamedRows = 16;
constexpr size_t kStreamBytes = size_t{128} << 20;  // four times a large L3

// A square matrix, or as many as it takes to leave no cache a chance.
class Weights {
 public:
  Weights(size_t matrix_bytes, int n_rows)
      : bytes_(matrix_bytes),
        n_(n_rows <= kMostStreamedRows ? std::max<size_t>(1, kStreamBytes / matrix_bytes) : 1),
        buffer_(random_bytes(bytes_ * n_)) {}
  const std::byte* next() { return buffer_.data() + bytes_ * (at_++ % n_); }

 private:
  size_t bytes_, n_, at_ = 0;
  AlignedBuffer buffer_;
};

class Quantised {
 public:
  Quantised(const KernelTable& kernels, int n_rows, int width) : acts(static_cast<size_t>(n_rows)) {
    const size_t n = acts.size(), d = static_cast<size_t>(width);
    q_.resize(n * d);
    d_.resize(n * d / 32);
    dsum_.resize(n * d / 32);
    sum16_.resize(n * d / 16);
    const std::vector<float> x = ramp(d);
    for (size_t t = 0; t < n; t++) {
      const MutableActRow row = {&q_[t * d], &d_[t * d / 32], &dsum_[t * d / 32],
                                 &sum16_[t * d / 16]};
      kernels.quantise_row(x.data(), width, row);
      acts[t] = {row.q, row.d, row.dsum, row.sum16};
    }
  }
  std::vector<ActRow> acts;

 private:
  std::vector<int8_t> q_;
  std::vector<float> d_, dsum_;
  std::vector<int32_t> sum16_;
};

void mul_panels(benchmark::State& state, const Isa& isa, DType type) {
  const int n = static_cast<int>(state.range(0));
  const size_t bytes = prepared_bytes(type, kWidth, kWidth);
  Weights weights(bytes, n);
  const Quantised x(*isa.kernels, n, kWidth);
  std::vector<float> y(static_cast<size_t>(n) * kWidth);
  const Work work = {.bytes = static_cast<double>(bytes), .dot_macs = 1.0 * n * kWidth * kWidth};
  measure(state, isa, work, [&] {
    isa.kernels->mul_panels[static_cast<size_t>(type)](weights.next(), kWidth, kWidth / kPanelRows,
                                                       x.acts.data(), n, y.data(), kWidth);
  });
}

void mul_rows(benchmark::State& state, const Isa& isa, KernelTable::MulRows kernel, size_t size) {
  const int n = static_cast<int>(state.range(0));
  const size_t bytes = size * kWidth * kWidth;
  Weights weights(bytes, n);
  const std::vector<float> x = ramp(kWidth);
  const std::vector<const float*> rows(static_cast<size_t>(n), x.data());
  std::vector<float> y(static_cast<size_t>(n) * kWidth);
  const Work work = {.bytes = static_cast<double>(bytes), .fma_macs = 1.0 * n * kWidth * kWidth};
  measure(state, isa, work,
          [&] { kernel(weights.next(), kWidth, kWidth, rows.data(), n, y.data(), kWidth); });
}

// The queries that share one KV head over `depth` positions: the heads of a decoded row, or 64 of
// several rows of a prompt; eight KV heads in turn.
constexpr int kKvHeads = 8, kHeadWidth = 128;

void attention(benchmark::State& state, const Isa& isa, KvType type) {
  const int n_queries = static_cast<int>(state.range(0)), depth = static_cast<int>(state.range(1));
  const size_t block_bytes = kv_block_bytes(type, kHeadWidth);
  const AlignedBuffer k =
      random_bytes(static_cast<size_t>(depth / kKvBlock) * kKvHeads * block_bytes);
  const AlignedBuffer v = random_bytes(k.size());
  const std::vector<float> q = ramp(static_cast<size_t>(n_queries) * kHeadWidth);
  std::vector<float> out(q.size());
  std::vector<AttnQuery> queries;
  for (size_t i = 0; i < q.size(); i += kHeadWidth) queries.push_back({&q[i], &out[i], depth});
  std::vector<int32_t> slots(static_cast<size_t>(depth));
  for (int p = 0; p < depth; p++) slots[static_cast<size_t>(p)] = p;
  AttnKernelArgs args;
  args.queries = queries.data();
  args.n_queries = n_queries;
  args.k_stride = args.v_stride = kKvHeads * block_bytes;
  args.slots = slots.data();
  args.d_k = args.d_v = kHeadWidth;
  args.scale = 0.1f;
  size_t head = 0;
  const Work work = {.bytes = 2.0 * depth / kKvBlock * static_cast<double>(block_bytes),
                     .fma_macs = 2.0 * depth * n_queries * kHeadWidth};
  measure(state, isa, work, [&] {
    args.k = k.data() + head * block_bytes;
    args.v = v.data() + head * block_bytes;
    isa.kernels->attention[static_cast<size_t>(type)](args);
    head = (head + 1) % kKvHeads;
  });
}

// The same of latent attention (DeepSeek-V2): one head of 576 for all 16 query heads, V in its
// first 512.
void latent_attention(benchmark::State& state, const Isa& isa, KvType type) {
  constexpr int kLatent = 512, kLatentKey = kLatent + 64;
  const int n_queries = static_cast<int>(state.range(0)), depth = static_cast<int>(state.range(1));
  const size_t block_bytes = kv_block_bytes(type, kLatentKey);
  const AlignedBuffer k = random_bytes(static_cast<size_t>(depth / kKvBlock) * block_bytes);
  const std::vector<float> q = ramp(static_cast<size_t>(n_queries) * kLatentKey);
  std::vector<float> out(static_cast<size_t>(n_queries) * kLatent);
  std::vector<AttnQuery> queries;
  for (size_t i = 0; i < static_cast<size_t>(n_queries); i++)
    queries.push_back({&q[i * kLatentKey], &out[i * kLatent], depth});
  std::vector<int32_t> slots(static_cast<size_t>(depth));
  for (int p = 0; p < depth; p++) slots[static_cast<size_t>(p)] = p;
  const AttnKernelArgs args = {.queries = queries.data(),
                               .n_queries = n_queries,
                               .k = k.data(),
                               .v = nullptr,
                               .k_stride = block_bytes,
                               .slots = slots.data(),
                               .d_k = kLatentKey,
                               .d_v = kLatent,
                               .v_in_k = true,
                               .scale = 0.1f};
  const Work work = {.bytes = static_cast<double>(k.size()),
                     .fma_macs = 1.0 * depth * n_queries * (kLatentKey + kLatent)};
  measure(state, isa, work, [&] { isa.kernels->attention[static_cast<size_t>(type)](args); });
}

// K and V of one head of one token.
void kv_write(benchmark::State& state, const Isa& isa, KvType type) {
  const std::vector<float> x = ramp(kHeadWidth);
  AlignedBuffer k(kv_block_bytes(type, kHeadWidth)), v(k.size());
  int token = 0;
  const double written = 2.0 * static_cast<double>(k.size()) / kKvBlock;
  measure(state, isa, {.bytes = 2 * 4 * kHeadWidth + written}, [&] {
    isa.kernels->kv_write[static_cast<size_t>(type)](x.data(), kHeadWidth, token, true, k.data());
    isa.kernels->kv_write[static_cast<size_t>(type)](x.data(), kHeadWidth, token, false, v.data());
    token = (token + 1) % kKvBlock;
  });
}

// Kernels that work on single rows of kWidth floats.
struct Row {
  std::vector<float> x = ramp(kWidth), w = ramp(kWidth), y = ramp(kWidth);
  std::vector<int8_t> q = std::vector<int8_t>(kWidth);
  std::vector<float> d = std::vector<float>(kWidth / 32), dsum = d;
  std::vector<int32_t> sum16 = std::vector<int32_t>(kWidth / 16);
};
struct RowKernel {
  const char* name;
  double bytes_per_element;  // read and written
  void (*run)(const KernelTable&, Row&);
};
constexpr RowKernel kRowKernels[] = {
    {"quantise_row", 4 + 1 + 8.0 / 32 + 4.0 / 16,
     [](const KernelTable& k, Row& r) {
       k.quantise_row(r.x.data(), kWidth, {r.q.data(), r.d.data(), r.dsum.data(), r.sum16.data()});
     }},
    {"rms_norm", 4 + 4 + 4,
     [](const KernelTable& k, Row& r) {
       k.rms_norm(r.x.data(), r.w.data(), kWidth, 1e-5f, r.y.data());
     }},
    {"swiglu", 4 + 4 + 4,
     [](const KernelTable& k, Row& r) {
       k.gated_unit[0](r.x.data(), r.w.data(), kWidth, r.y.data());
     }},
    {"add", 4 + 4 + 4, [](const KernelTable& k, Row& r) { k.add(r.x.data(), kWidth, r.y.data()); }},
    {"axpy", 4 + 4 + 4,
     [](const KernelTable& k, Row& r) { k.axpy(1e-9f, r.x.data(), kWidth, r.y.data()); }},
    {"softmax", 4 + 4, [](const KernelTable& k, Row& r) { k.softmax(r.x.data(), kWidth); }},
};

void row_kernel(benchmark::State& state, const Isa& isa, const RowKernel* kernel) {
  Row row;
  measure(state, isa, {.bytes = kernel->bytes_per_element * kWidth},
          [&] { kernel->run(*isa.kernels, row); });
}

// Stock bytes -> panels. In plain C++ for all instruction sets.
void prepare(benchmark::State& state, const Isa& isa, DType type) {
  const AlignedBuffer stock = random_bytes(row_bytes(type, kWidth) * kWidth);
  AlignedBuffer panels(prepared_bytes(type, kWidth, kWidth));
  measure(state, isa, {.bytes = static_cast<double>(stock.size() + panels.size())},
          [&] { prepare_weight(type, kWidth, kWidth, stock.data(), panels.data()); });
}

template <class... Args>
benchmark::internal::Benchmark* add(const std::string& name, Args... args) {
  return benchmark::RegisterBenchmark(name.c_str(), args...)->Unit(benchmark::kMicrosecond);
}

void register_isa(const Isa& isa) {
  const KernelTable& k = *isa.kernels;
  const std::string prefix = std::string(k.isa) + "/";
  const auto over_rows = [](benchmark::internal::Benchmark* b) {
    for (const int n : kRows) b->Arg(n);
  };
  for (const DTypeInfo& type : dtype_table())
    if (k.mul_panels[static_cast<size_t>(type.type)])
      over_rows(add(prefix + "mul/" + std::string(type.name), mul_panels, isa, type.type));
  over_rows(add(prefix + "mul/F32", mul_rows, isa, k.mul_rows_f32, size_t{4}));
  over_rows(add(prefix + "mul/F16", mul_rows, isa, k.mul_rows_f16, size_t{2}));
  over_rows(add(prefix + "mul/BF16", mul_rows, isa, k.mul_rows_bf16, size_t{2}));
  for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8}) {
    const std::string name = kv_type_name(type);
    add(prefix + "attention/" + name, attention, isa, type)
        ->ArgNames({"queries", "depth"})
        ->ArgsProduct({{1, 4, 8, kMaxAttnQueries}, {64, 1024, 16384}});
    add(prefix + "latent_attention/" + name, latent_attention, isa, type)
        ->ArgNames({"queries", "depth"})
        ->ArgsProduct({{8, 16, kMaxAttnQueries}, {64, 1024, 16384}});
    add(prefix + "kv_write/" + name, kv_write, isa, type);
  }
  for (const RowKernel& kernel : kRowKernels) add(prefix + kernel.name, row_kernel, isa, &kernel);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const KernelTable* tables[8];
  const int n_tables = supported_kernels(tables);
  const double stream = measure_ram_bandwidth(1, stream_pool_bytes(0));
  for (int i = 0; i < n_tables; i++) {
    const ComputePeaks peaks = measure_compute_peaks(tables[i]->isa, 1);
    std::fprintf(stderr, "%s, one thread: memory %.1f GB/s, 8-bit %.1f GMAC/s, f32 %.1f GMAC/s\n",
                 tables[i]->isa, stream * 1e-9, peaks.dot_macs_per_s * 1e-9,
                 peaks.fma_macs_per_s * 1e-9);
    const Isa isa = {tables[i], stream, peaks.dot_macs_per_s, peaks.fma_macs_per_s};
    register_isa(isa);
    if (i > 0) continue;
    for (const DTypeInfo& type : dtype_table())
      if (type.quantised()) add("prepare/" + std::string(type.name), prepare, isa, type.type);
  }
  benchmark::RunSpecifiedBenchmarks();
}
