#pragma once
// Ctrl-C as a flag that work checks between steps.
#include <atomic>

namespace hob::app {

struct Interrupt {
  std::atomic<bool>& flag;  // set by SIGINT, cleared by whoever acted on it
  int wake_fd;              // readable after a SIGINT; for a poll() that must not miss one
};

// From the first call on, SIGINT sets the flag instead of ending the program. A second SIGINT while
// the flag is still set ends the program at once (exit status 130), unless `patient`: a chat must
// survive impatience. Throws Error(kIo) if the system has no pipe left. Call once.
Interrupt install_interrupt(bool patient);

}  // namespace hob::app
