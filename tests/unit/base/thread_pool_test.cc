#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "base/cpu_info.h"

namespace hob {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (int n_threads : {1, 2, 3, 8}) {
    ThreadPool pool(n_threads);
    for (int n_tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(n_tasks));
      pool.run(n_tasks, [&](int task) { runs[static_cast<size_t>(task)]++; });
      for (const auto& r : runs)
        ASSERT_EQ(r, 1) << n_threads << " threads, " << n_tasks << " tasks";
    }
  }
}

// What tasks wrote is visible to the caller and to the tasks of the next region, without atomics
// (TSan checks it).
TEST(ThreadPool, RegionsAreOrdered) {
  ThreadPool pool(3);
  std::vector<int> values(64, 0);
  for (int round = 1; round <= 2000; round++) {
    // Each element moves to another task, so probably to another thread, in every round.
    pool.run(64, [&](int task) { values[static_cast<size_t>((task + round) % 64)] += 1; });
    for (int v : values) ASSERT_EQ(v, round);
  }
}

// A worker may be anywhere between "nothing to do" and parked when the pool goes away; it must not
// sleep through it.
TEST(ThreadPool, EndsWhateverItsWorkersDo) {
  for (int i = 0; i < 300; i++) {
    ThreadPool pool(4);
    std::atomic<int> sum{0};
    if (i % 3) pool.run(i % 7, [&](int task) { sum += task; });
  }
}

std::vector<int> my_cores() {
  std::vector<int> ids;
  for (const Core& core : usable_cores()) ids.push_back(core.id);
  return ids;
}

TEST(ThreadPool, PinnedThreadsStayOnTheirCores) {
  const std::vector<int> before = my_cores();
  {
    ThreadPool pool(3, before);
    pool.pin_caller();
    EXPECT_EQ(pool.pin_failure(), "");
    EXPECT_EQ(my_cores(), std::vector<int>{before[0]});
    std::mutex mutex;
    std::set<std::thread::id> threads;
    std::set<int> cores;
    for (int round = 0; round < 100; round++)
      pool.run(12, [&](int) {
        std::this_thread::sleep_for(std::chrono::microseconds(20));  // everybody gets a task
        const std::lock_guard lock(mutex);
        EXPECT_EQ(my_cores().size(), 1u);
        threads.insert(std::this_thread::get_id());
        cores.insert(my_cores()[0]);
      });
    EXPECT_EQ(threads.size(), 3u);
    EXPECT_EQ(cores.size(), std::min<size_t>(3, before.size()));
  }
  EXPECT_EQ(my_cores(), before);
}

TEST(ThreadPool, WithoutCoresNobodyIsPinned) {
  const std::vector<int> before = my_cores();
  ThreadPool pool(2);
  pool.pin_caller();
  pool.run(8, [&](int) { EXPECT_EQ(my_cores(), before); });
}

TEST(ThreadPool, RefusedPinIsOneMessageAndThePoolWorks) {
  const std::vector<int> before = my_cores();
  ThreadPool pool(3, {CPU_SETSIZE - 1});
  pool.pin_caller();
  EXPECT_NE(pool.pin_failure().find("core 1023"), std::string::npos) << pool.pin_failure();
  EXPECT_EQ(pool.pin_failure().find('\n'), std::string::npos);
  EXPECT_EQ(my_cores(), before);
  std::atomic<int> sum{0};
  pool.run(10, [&](int task) { sum += task; });
  EXPECT_EQ(sum, 45);
}

}  // namespace
}  // namespace hob
