#include "base/thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>

namespace hob {
namespace {

TEST(Thread, AllRunTogether) {
  for (const int n : {1, 2, 5}) {
    std::barrier meet(n);  // would wait for ever if one did not run
    std::atomic<int> sum = 0;
    run_together(n, [&](int i) {
      meet.arrive_and_wait();
      sum += 1 << i;
    });
    EXPECT_EQ(sum, (1 << n) - 1);
  }
}

TEST(Thread, RunsItsWork) {
  std::atomic<bool> ran = false;
  start_thread("a test", [&] { ran = true; }).join();
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace hob
