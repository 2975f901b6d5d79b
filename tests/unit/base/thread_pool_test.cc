#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

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

}  // namespace
}  // namespace hob
