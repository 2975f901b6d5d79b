#include "base/thread.h"

#include <atomic>
#include <system_error>
#include <vector>

#include "base/error.h"

namespace hob {

std::thread start_thread(std::string_view what, std::function<void()> work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error& e) {
    fail(Code::kIo, "[thread] expected a thread for {}, the system refused: {}",
         what, e.code().message());
  }
}

void run_together(int n, const std::function<void(int)>& work) {
  enum : int { kWait, kBegin, kGiveUp };
  std::atomic<int> state = kWait;
  const auto order = [&state](int next) {
    state = next;
    state.notify_all();
  };
  std::vector<std::thread> threads;
  const auto join = [&threads] {
    for (std::thread& t : threads) t.join();
  };
  try {
    for (int i = 1; i < n; i++)
      threads.push_back(start_thread("a measurement", [&state, &work, i] {
        state.wait(kWait);
        if (state == kBegin) work(i);
      }));
  } catch (...) {
    order(kGiveUp);
    join();
    throw;
  }
  order(kBegin);
  work(0);
  join();
}

}  // namespace hob
