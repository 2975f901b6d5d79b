#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "base/cpu_info.h"
#include "base/error.h"
#include "base/thread.h"

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

// Sets of up to CPU_SETSIZE (1024) cores; a core beyond that cannot be named and is refused.
cpu_set_t set_of(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores)
    if (core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &set);
  return set;
}

}  // namespace

ThreadPool::ThreadPool(int n_threads, std::vector<int> cores) : cores_(std::move(cores)) {
  HOB_CHECK(n_threads >= 1);
  for (int i = 1; i < n_threads; i++) {
    try {
      workers_.push_back(start_thread("the kernels", [this] { worker_loop(); }));
    } catch (...) {
      end_workers();
      throw;
    }
    if (cores_.empty()) continue;
    const int core = cores_[static_cast<size_t>(i) % cores_.size()];
    const cpu_set_t set = set_of({core});
    record_pin(pthread_setaffinity_np(workers_.back().native_handle(), sizeof(set), &set), core);
  }
}

void ThreadPool::pin_caller() {
  if (cores_.empty() || pinned_caller_ != 0) return;
  std::vector<int> before;
  for (const Core& core : usable_cores()) before.push_back(core.id);
  const cpu_set_t set = set_of({cores_[0]});
  if (sched_setaffinity(0, sizeof(set), &set) != 0) return record_pin(errno, cores_[0]);
  pinned_caller_ = gettid();
  caller_cores_ = std::move(before);
}

void ThreadPool::record_pin(int error, int core) {
  if (error == 0 || !pin_failure_.empty()) return;
  pin_failure_ = fmt::format("[cpu] expected to keep a thread on core {}, the system refused: {}",
                             core, std::strerror(error));
}

ThreadPool::~ThreadPool() {
  if (pinned_caller_ != 0) {
    const cpu_set_t set = set_of(caller_cores_);
    sched_setaffinity(pinned_caller_, sizeof(set), &set);  // fails when the thread has ended
  }
  end_workers();
}

void ThreadPool::end_workers() {
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
    // The epoch first: it changes after stop_ and state_ do, so whatever is missed below ends the
    // wait for it.
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
