#include "base/thread_pool.h"

#include <chrono>

#include "base/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hob {
namespace {

constexpr uint64_t kTaskBits = 20, kTaskMask = (1u << kTaskBits) - 1;

// Longer than the serial glue between two parallel regions of one layer (a few us), shorter than a
// disk read (100 us and more): a worker spins through the former and parks during the latter.
constexpr auto kSpin = std::chrono::microseconds(50);

void cpu_relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

uint64_t n_tasks_of(uint64_t state) { return state >> kTaskBits & kTaskMask; }
uint64_t next_of(uint64_t state) { return state & kTaskMask; }

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  HOB_CHECK(n_threads >= 1);
  for (int i = 1; i < n_threads; i++) workers_.emplace_back([this] { worker_loop(); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

bool ThreadPool::claim_one() {
  uint64_t state = state_.load(std::memory_order_acquire);
  while (next_of(state) < n_tasks_of(state)) {
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
      fn_(context_, static_cast<int>(next_of(state)));
      n_done_.fetch_add(1, std::memory_order_release);
      return true;
    }
  }
  return false;
}

void ThreadPool::run_shared(int n_tasks, TaskFn fn, void* context) {
  HOB_CHECK(n_tasks <= kMaxTasks);
  fn_ = fn;
  context_ = context;
  n_done_.store(0, std::memory_order_relaxed);
  const uint64_t generation = (state_.load(std::memory_order_relaxed) >> 2 * kTaskBits) + 1;
  state_.store(generation << 2 * kTaskBits | static_cast<uint64_t>(n_tasks) << kTaskBits,
               std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();  // no system call unless a worker is parked
  while (claim_one()) {
  }
  // What is left runs on other threads right now; tasks are short, so spin.
  while (n_done_.load(std::memory_order_acquire) < n_tasks) cpu_relax();
}

void ThreadPool::worker_loop() {
  while (true) {
    // The epoch first: it changes after stop_ and state_ do, so whatever is missed below ends the wait for it.
    const uint32_t epoch = epoch_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_acquire)) return;
    while (claim_one()) {
    }
    const auto until = std::chrono::steady_clock::now() + kSpin;
    for (int i = 0; epoch_.load(std::memory_order_relaxed) == epoch; i++) {
      cpu_relax();
      if (i % 64 == 63 && std::chrono::steady_clock::now() > until) {
        epoch_.wait(epoch, std::memory_order_relaxed);
        break;
      }
    }
  }
}

}  // namespace hob
