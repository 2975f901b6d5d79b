#include "wanrelay/command.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "wanrelay/delay_line.h"
#include "wanrelay/options.h"

namespace hob::wan {
namespace {

constexpr double kMaxOutageS = 86400;

using Words = std::vector<std::string_view>;

[[noreturn]] void bad_command(std::string_view line) {
  fail(Code::kInvalidArgument,
       "[control] expected 'drop both|up|down SECONDS|forever', 'restore', "
       "'delay [both|up|down] MS' or 'stats', got '{}'",
       line.substr(0, 80));
}

Words words_of(std::string_view line) {
  constexpr std::string_view kSpace = " \t\r";
  Words words;
  for (;;) {
    const size_t begin = line.find_first_not_of(kSpace);
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    const size_t n = std::min(line.find_first_of(kSpace), line.size());
    words.push_back(line.substr(0, n));
    line.remove_prefix(n);
  }
}

// Between 0 and max; otherwise NaN.
double number(std::string_view text, double max) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool good = error == std::errc() && end == text.data() + text.size();
  return good && value >= 0 && value <= max ? value : std::nan("");
}

bool set_directions(std::string_view word, Command& command) {
  command.up = word == "both" || word == "up";
  command.down = word == "both" || word == "down";
  return command.up || command.down;
}

}  // namespace

Command parse_command(std::string_view line) {
  const Words words = words_of(line);
  const std::string_view verb = words.empty() ? "" : words[0];
  if (words.size() == 1 && verb == "restore") return {.verb = Verb::kRestore};
  if (words.size() == 1 && verb == "stats") return {.verb = Verb::kStats};
  const bool is_drop = verb == "drop" && words.size() == 3;
  const bool is_delay = verb == "delay" && (words.size() == 2 || words.size() == 3);
  if (!is_drop && !is_delay) bad_command(line);
  Command command{.verb = is_drop ? Verb::kDrop : Verb::kDelay};
  if (words.size() == 3 && !set_directions(words[1], command)) bad_command(line);
  if (is_drop && words[2] == "forever") {
    command.time_ns = kForever;
    return command;
  }
  const double value = number(words.back(), is_drop ? kMaxOutageS : kMaxDelayMs);
  if (std::isnan(value)) bad_command(line);
  command.time_ns = std::llround(value * (is_drop ? 1e9 : 1e6));
  return command;
}

}  // namespace hob::wan
