// Speed of the weight products, per type and number of rows: GB/s of weights and 10^9 multiply-adds
// per second.
//   cmake --preset release -DHOB_BENCH=ON && ninja -C build/release bench_kernels &&
//   build/release/bench/bench_kernels
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/layout.h"
#include "kernels/table.h"

namespace {

using namespace hob;

// 2048 x 2048 weights of one type (more than L2), random codes, scales of 1.0.
void multiply(benchmark::State& state, const KernelTable* kernels, DType type) {
  const int d = 2048, n = static_cast<int>(state.range(0));
  const size_t bytes = prepared_bytes(type, d, d);
  static const bool cached = std::getenv("HOB_BENCH_CACHED") != nullptr;
  const int copies = n == 1 && !cached
                         ? 64
                         : 1;  // one row: stream through far more than the caches, as decoding does
  AlignedBuffer w(bytes * static_cast<size_t>(copies), std::getenv("HUGE") != nullptr);
  uint32_t x = 1;
  for (size_t i = 0; i < w.size(); i++)
    w.data()[i] = static_cast<std::byte>((x = x * 1664525 + 1013904223) >> 24);
  std::vector<int8_t> q(static_cast<size_t>(n * d), 3);
  std::vector<float> scale(static_cast<size_t>(n * d / 32), 0.01f), y(static_cast<size_t>(n * d));
  std::vector<int32_t> sums(static_cast<size_t>(n * d / 16), 48);
  std::vector<ActRow> acts;
  for (size_t t = 0; t < static_cast<size_t>(n); t++)
    acts.push_back({&q[t * d], &scale[t * d / 32], &scale[t * d / 32], &sums[t * d / 16]});
  size_t at = 0;
  for (auto _ : state) {
    kernels->mul_panels[static_cast<size_t>(type)](w.data() + at * bytes, d, d / kPanelRows,
                                                   acts.data(), n, y.data(), d);
    at = (at + 1) % static_cast<size_t>(copies);
    benchmark::DoNotOptimize(y.data());
  }
  const double runs = static_cast<double>(state.iterations());
  state.counters["GB/s"] =
      benchmark::Counter(runs * static_cast<double>(bytes) * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GMAC/s"] =
      benchmark::Counter(runs * n * 1e-9 * d * d, benchmark::Counter::kIsRate);
}

// Stock bytes -> panels.
void prepare(benchmark::State& state, DType type) {
  const int d = 2048;
  std::vector<std::byte> stock(row_bytes(type, d) * d);
  AlignedBuffer w(prepared_bytes(type, d, d));
  for (auto _ : state) prepare_weight(type, d, d, stock.data(), w.data());
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(stock.size()) * 1e-9,
      benchmark::Counter::kIsRate);
}

}  // namespace

int main(int argc, char** argv) {
  const KernelTable* tables[8];
  const int n_tables = supported_kernels(tables);
  for (const DTypeInfo& type : dtype_table()) {
    if (!type.quantised()) continue;
    benchmark::RegisterBenchmark(("prepare/" + std::string(type.name)).c_str(), prepare, type.type);
    for (int i = 0; i < n_tables; i++)
      benchmark::RegisterBenchmark(
          ("mul/" + std::string(tables[i]->isa) + "/" + std::string(type.name)).c_str(), multiply,
          tables[i], type.type)
          ->Arg(1)
          ->Arg(2)
          ->Arg(4)
          ->Arg(16)
          ->Arg(128);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
