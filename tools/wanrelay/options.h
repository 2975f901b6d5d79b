#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "wanrelay/delay_line.h"

namespace CLI {
class App;
}

namespace hob::wan {

constexpr double kMaxDelayMs = 60'000;

struct Options {
  std::string left, right;  // namespaces
  std::string left_ip = "10.9.0.1", right_ip = "10.9.0.2";
  std::string device = "wan0";
  int mtu = 1500;
  LineConfig up, down;  // left to right, right to left
  uint64_t seed = 1;
  bool spin = false;
  std::string control;  // path, or empty
  std::string send;     // a command for a relay that runs: be its client instead
};

// Bits per second, decimal as the speeds of lines are: "20M", "1.5G", "64k", "9600"; "0" is
// unlimited. Throws Error(kInvalidArgument).
double parse_rate(std::string_view text);

// Throws Error(kInvalidArgument), and what CLI11 throws for --help.
Options parse_options(CLI::App& app, int argc, const char* const* argv);

}  // namespace hob::wan
