#include "backend/compute_peaks.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "kernels/table.h"

namespace hob {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kWindowSeconds =
    0.01;  // some hundred calls: the clock's grain is nothing beside it
constexpr int kWindows = 5;

// Multiply-adds per second of one thread.
double window_rate(const std::function<uint64_t()>& work) {
  const auto start = Clock::now();
  uint64_t n_macs = 0;
  double seconds = 0;
  while (seconds < kWindowSeconds) {
    n_macs += work();
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return static_cast<double>(n_macs) / seconds;
}

// The best of some windows in which all threads work at once: the question is what the cores can
// do.
double best_rate(int n_threads, const std::function<uint64_t()>& work) {
  std::vector<double> rates(static_cast<size_t>(n_threads));
  std::barrier start(n_threads);
  double best = 0;
  for (int window = 0; window < kWindows; window++) {
    std::vector<std::jthread> threads;
    for (double& rate : rates)
      threads.emplace_back([&] {
        start.arrive_and_wait();
        rate = window_rate(work);
      });
    threads.clear();
    double total = 0;
    for (const double rate : rates) total += rate;
    best = std::max(best, total);
  }
  return best;
}

}  // namespace

ComputePeaks measure_compute_peaks(std::string_view isa, int n_threads) {
  HOB_CHECK(n_threads >= 1);
  const KernelTable& kernels = select_kernels(std::string(isa).c_str());
  constexpr int kRounds = KernelTable::kMaxPeakRounds;
  ComputePeaks peaks;
  peaks.dot_macs_per_s = best_rate(n_threads, [&] {
    int32_t result;
    return kernels.peak_dot(kRounds, &result);
  });
  peaks.fma_macs_per_s = best_rate(n_threads, [&] {
    float result;
    return kernels.peak_fma(kRounds, &result);
  });
  return peaks;
}

}  // namespace hob
