// The stream loop: what memory gives to plain reads.
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstring>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/error.h"
#include "base/thread.h"
#include "engine/machine_probe.h"

namespace hob {
namespace {

using Clock = std::chrono::steady_clock;

// 16 bytes: every 64-bit machine has registers of that size, and wider ones do not read memory
// faster (see below).
using Words = uint64_t __attribute__((vector_size(16)));
constexpr size_t kChains = 8;  // independent sums hide the latency of the additions
constexpr size_t kUnit = kChains * sizeof(Words);

// Reads n_bytes (a multiple of kUnit). kAhead: software prefetch distance in bytes, 0 = the
// hardware's own.
template <size_t kAhead>
uint64_t sum_words(const std::byte* data, size_t n_bytes) {
  const auto* words = reinterpret_cast<const Words*>(data);
  Words sums[kChains] = {};
  for (size_t i = 0; i < n_bytes / sizeof(Words); i += kChains) {
    if constexpr (kAhead > 0)
      for (size_t line = 0; line < kUnit; line += 64)
        __builtin_prefetch(reinterpret_cast<const std::byte*>(words + i) + kAhead + line, 0, 3);
    for (size_t j = 0; j < kChains; j++) sums[j] += words[i + j];
  }
  for (size_t j = 1; j < kChains; j++) sums[0] += sums[j];
  return sums[0][0] + sums[0][1];
}

// The best of these and of all passes counts: the question is what the memory can do. Medians of 5
// passes over 256 MiB in huge pages, two threads of a virtual machine, GB/s: plain 28.9; prefetch
// 1, 2, 4 KiB ahead 20.9, 21.2, 24.5; AVX-512 loads 26.3; 2, 4, 8 streams per thread 20, 16, 12.
// A minute later 29.5, 29.4, 30.7, 38.7 and 34.3: the neighbours' share of the memory moves the
// figure more than the loop does, but plain and 4 KiB ahead were never far from the best.
using SumFn = uint64_t (*)(const std::byte*, size_t);
constexpr SumFn kVariants[] = {sum_words<0>, sum_words<4096>};
constexpr int kPasses = 14;

// Several times the last-level cache of a large desktop.
constexpr size_t kMaxStreamBytes = size_t{256} << 20;

}  // namespace

size_t stream_pool_bytes(uint64_t budget_bytes) {
  return budget_bytes == 0 ? kMaxStreamBytes
                           : std::clamp<size_t>(budget_bytes / 4, 1 << 20, kMaxStreamBytes);
}

double measure_ram_bandwidth(int n_threads, size_t pool_bytes) {
  HOB_CHECK(n_threads >= 1);
  const size_t n = static_cast<size_t>(n_threads);
  const size_t share = pool_bytes / n / kUnit * kUnit;
  AlignedBuffer pool(share * n, /*huge_pages=*/true);
  std::memset(pool.data(), 0x11, pool.size());
  std::vector<uint64_t> sums(n);
  std::vector<Clock::time_point> begins(n), ends(n);
  std::barrier sync(n_threads);
  double best_seconds = 0;
  const auto work = [&](int thread) {
    const auto t = static_cast<size_t>(thread);
    for (int pass = 0; pass < kPasses; pass++) {
      const SumFn sum = kVariants[static_cast<size_t>(pass) % std::size(kVariants)];
      sync.arrive_and_wait();
      begins[t] = Clock::now();
      sums[t] += sum(pool.data() + t * share, share);
      ends[t] = Clock::now();
      sync.arrive_and_wait();
      if (t != 0) continue;
      // From the first to begin to the last to end: on a busy machine a thread may leave the
      // barrier late, and the best pass must not be one in which they took turns.
      const auto begin = *std::min_element(begins.begin(), begins.end());
      const auto end = *std::max_element(ends.begin(), ends.end());
      const double seconds = std::chrono::duration<double>(end - begin).count();
      if (pass == 0 || seconds < best_seconds) best_seconds = seconds;
    }
  };
  run_together(n_threads, work);
  // Reading the sums keeps the compiler from dropping the loads.
  HOB_CHECK(std::count(sums.begin(), sums.end(), uint64_t{1}) == 0);
  return static_cast<double>(share * n) / std::max(best_seconds, 1e-9);
}

}  // namespace hob
