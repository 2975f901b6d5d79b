#pragma once
#include <chrono>
#include <csignal>

namespace hob::app {

// SIGTERM, SIGINT and SIGHUP (the terminal has gone) as events to be asked for, in whatever thread,
// instead of handlers. Make it before any other thread, so that all of them inherit the mask.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    // nohup: a signal that is blocked arrives even if it is ignored.
    struct sigaction hangup = {};
    if (sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
      sigaddset(&set_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  // True when one has come; waits for it no longer than `time`.
  bool come(std::chrono::milliseconds time) const {
    const timespec limit{time.count() / 1000, time.count() % 1000 * 1'000'000};
    return sigtimedwait(&set_, nullptr, &limit) > 0;
  }

 private:
  sigset_t set_;
};

}  // namespace hob::app
