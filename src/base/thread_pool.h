#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace hob {

// Fixed workers that share the tasks of one parallel region at a time with the calling thread.
// Idle workers spin for some microseconds (a barrier inside a layer is that short), then park on a
// futex, so that a thread waiting for the disk burns nothing. One caller at a time; no nesting.
class ThreadPool {
 public:
  explicit ThreadPool(int n_threads);  // including the caller; >= 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

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
  void worker_loop();

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
};

}  // namespace hob
