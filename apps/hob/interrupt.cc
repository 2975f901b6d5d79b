#include "interrupt.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace hob::app {
namespace {

// A signal handler can reach nothing but globals.
std::atomic<bool> g_interrupted{false};
std::atomic<bool> g_patient{false};
std::atomic<int> g_wake_fd{-1};
static_assert(std::atomic<bool>::is_always_lock_free,
              "a signal handler may touch lock-free atomics only");

void on_sigint(int) {
  constexpr int kInterrupted =
      130;  // 128 + SIGINT, what shells expect of a program that was interrupted
  if (g_interrupted.exchange(true) && !g_patient) _exit(kInterrupted);
  // Wakes a poll() in whatever thread: the signal may arrive in any of them, and just before the poll.
  const int saved_errno = errno;
  [[maybe_unused]] const ssize_t n = write(g_wake_fd, "", 1);  // a full pipe wakes as well
  errno = saved_errno;
}

}  // namespace

Interrupt install_interrupt(bool patient) {
  g_patient = patient;
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    fail(Code::kIo, "[run] expected a pipe, {}", std::strerror(errno));
  g_wake_fd = ends[1];
  struct sigaction action {};
  action.sa_handler = on_sigint;
  sigemptyset(&action.sa_mask);
  action.sa_flags =
      0;  // no SA_RESTART: a blocked read of the terminal returns, so that the prompt can react
  sigaction(SIGINT, &action, nullptr);
  return {g_interrupted, ends[0]};
}

}  // namespace hob::app
