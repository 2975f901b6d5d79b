#include "interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace hob::app {
namespace {

// A signal handler can reach nothing but globals.
std::atomic<bool> g_interrupted{false};
std::atomic<bool> g_patient{false};
static_assert(std::atomic<bool>::is_always_lock_free,
              "a signal handler may touch lock-free atomics only");

void on_sigint(int) {
  constexpr int kInterrupted =
      130;  // 128 + SIGINT, what shells expect of a program that was interrupted
  if (g_interrupted.exchange(true) && !g_patient) _exit(kInterrupted);
}

}  // namespace

std::atomic<bool>& install_interrupt(bool patient) {
  g_patient = patient;
  struct sigaction action {};
  action.sa_handler = on_sigint;
  sigemptyset(&action.sa_mask);
  action.sa_flags =
      0;  // no SA_RESTART: a blocked read of the terminal returns, so that the prompt can react
  sigaction(SIGINT, &action, nullptr);
  return g_interrupted;
}

}  // namespace hob::app
