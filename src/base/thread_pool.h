#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace hob {

// Fixed workers that share the tasks of one parallel region at a time with the calling thread.
// Idle workers spin for some microseconds (a barrier inside a layer is that short), then park on a
// futex, so that a thread waiting for the disk burns nothing. One caller at a time; no nesting.
//
// Tasks are claimed one by one, so a region's work is split by speed, not by number: on big.LITTLE,
// or beside other programs, the faster core simply takes more of them. Callers cut a region into
// several tasks per thread, the last ones short, so that nobody is waited for long.
class ThreadPool {
 public:
  // n_threads: including the caller; >= 1. `cores`: empty = threads go where the system puts them;
  // else worker i stays on cores[i % size], with 0 for the caller (pin_caller).
  explicit ThreadPool(int n_threads, std::vector<int> cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Keeps the calling thread on cores[0] until the pool ends; nothing without cores. Threads that
  // it starts later would inherit that, so call it when all have been started.
  void pin_caller();
  // Why a thread could not be pinned (it then runs anywhere); empty = all is as asked.
  const std::string& pin_failure() const { return pin_failure_; }

  int n_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(task) for every task in [0, n_tasks), each once, on any thread; returns when all are
  // done. f must not throw. n_tasks <= kMaxTasks.
  template <class F>
  void run(int n_tasks, F&& f) {
    if (n_tasks <= 0) return;
    if (workers_.empty() || n_tasks == 1) {
      for (int i = 0; i < n_tasks; i++) f(i);
      return;
    }
    run_shared(
        n_tasks,
        [](void* context, int task) { (*static_cast<std::remove_reference_t<F>*>(context))(task); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

  static constexpr int kMaxTasks = (1 << 20) - 1;

 private:
  using TaskFn = void (*)(void*, int);
  void run_shared(int n_tasks, TaskFn fn, void* context);
  bool claim_one();
  void end_workers();
  void worker_loop();
  void record_pin(int error, int core);

  // One word says which tasks are left: generation (24 bits) | n_tasks (20) | next (20). A
  // successful compare-and-swap on it both claims a task and proves that fn_/context_ belong to it:
  // the caller cannot start the next region before that task has been counted in n_done_.
  std::atomic<uint64_t> state_{0};
  std::atomic<int> n_done_{0};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<bool> stop_{false};
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  std::vector<std::thread> workers_;

  std::vector<int> cores_;
  std::string pin_failure_;
  int pinned_caller_ = 0;          // the kernel's thread id; 0 = none
  std::vector<int> caller_cores_;  // that it might use before
};

}  // namespace hob
