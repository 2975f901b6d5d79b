#pragma once
// Ctrl-C as a flag that work checks between steps.
#include <atomic>

namespace hob::app {

// From the first call on, SIGINT sets the flag instead of ending the program. A second SIGINT while
// the flag is still set ends the program at once (exit status 130), unless `patient`: a chat must
// survive impatience.
std::atomic<bool>& install_interrupt(bool patient);

}  // namespace hob::app
