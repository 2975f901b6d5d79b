#pragma once
// Threads that the system may refuse.
#include <functional>
#include <string_view>
#include <thread>

namespace hob {

// Throws Error(kIo) naming `what` when the system refuses a thread. Whoever has
// started others before must end them then: a std::thread that is destroyed while it runs ends the
// program.
std::thread start_thread(std::string_view what, std::function<void()> work);

// work(0) here and work(1) to work(n - 1) on threads of their own, all at the same time; returns
// when all have ended. None begins before all have a thread, so they may wait for each other. Throws
// as start_thread() does. `work` must not throw.
void run_together(int n, const std::function<void(int)>& work);

}  // namespace hob
