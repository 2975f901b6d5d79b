#pragma once
// Drives both session state machines with what arbitrary bytes say, and checks what must hold
// whatever comes: for the fuzzer and for a property test.
#include <cstdint>
#include <span>

namespace hob::edge {

// Aborts (HOB_CHECK) when an invariant breaks.
void drive_sessions(std::span<const uint8_t> bytes);

}  // namespace hob::edge
