#include "backend/compute_peaks.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/thread.h"
#include "kernels/table.h"

namespace hob {
namespace {

using Clock = std::chrono::steady_clock;
// Some hundred calls: the clock's grain is nothing beside it.
constexpr auto kWindow = std::chrono::milliseconds(10);
constexpr int kWindows = 5;

struct Window {  // of one thread
  Clock::time_point begin, end;
  uint64_t n_macs = 0;
};

void fill(Window& w, const std::function<uint64_t()>& work) {
  w = {.begin = Clock::now(), .end = {}, .n_macs = 0};
  do {
    w.n_macs += work();
    w.end = Clock::now();
  } while (w.end - w.begin < kWindow);
}

// All threads' work from the first to begin to the last to end: they must not count as parallel
// when they took turns.
double rate_of(const std::vector<Window>& windows) {
  Clock::time_point begin = windows[0].begin, end = windows[0].end;
  uint64_t n_macs = 0;
  for (const Window& w : windows) {
    begin = std::min(begin, w.begin);
    end = std::max(end, w.end);
    n_macs += w.n_macs;
  }
  return static_cast<double>(n_macs) / std::chrono::duration<double>(end - begin).count();
}

// The best of some windows in which all threads work at once: the question is what the cores can
// do.
double best_rate(int n_threads, const std::function<uint64_t()>& work) {
  std::vector<Window> windows(static_cast<size_t>(n_threads));
  std::barrier start(n_threads);
  double best = 0;
  for (int i = 0; i < kWindows; i++) {
    run_together(n_threads, [&](int t) {
      start.arrive_and_wait();
      fill(windows[static_cast<size_t>(t)], work);
    });
    best = std::max(best, rate_of(windows));
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
