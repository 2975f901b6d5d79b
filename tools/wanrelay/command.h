#pragma once
#include <cstdint>
#include <string_view>

namespace hob::wan {

enum class Verb { kDrop, kRestore, kDelay, kStats };

// A line of the control socket:
//   drop both|up|down SECONDS|forever
//   restore
//   delay [both|up|down] MS
//   stats
struct Command {
  Verb verb;
  bool up = true, down = true;
  int64_t time_ns = 0;  // of drop: how long, or kForever; of delay: the new delay
};

// Throws Error(kInvalidArgument).
Command parse_command(std::string_view line);

}  // namespace hob::wan
