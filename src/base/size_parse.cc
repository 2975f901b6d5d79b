#include "base/size_parse.h"

#include <array>
#include <cctype>
#include <cmath>

#include "base/error.h"

namespace hob {
namespace {

constexpr std::string_view kUnits = "kmgt";

[[noreturn]] void bad_size(std::string_view text) {
  fail(Code::kInvalidArgument, "[size] expected a size such as 512M, 2G or 1.5GiB, got '{}'", text);
}

// 1 for "" and "B", 1024 for "k", "KB", "KiB" and so on; 0 when it is no unit.
double unit_factor(std::string_view suffix) {
  std::string unit;
  for (char c : suffix) unit += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (unit.empty() || unit == "b") return 1;
  const size_t power = kUnits.find(unit[0]);
  if (power == std::string_view::npos) return 0;
  const std::string rest = unit.substr(1);
  if (!rest.empty() && rest != "b" && rest != "ib") return 0;
  return std::ldexp(1.0, 10 * (static_cast<int>(power) + 1));
}

}  // namespace

uint64_t parse_size(std::string_view text) {
  size_t n_digits = 0, n_points = 0;
  while (n_digits < text.size() &&
         (std::isdigit(static_cast<unsigned char>(text[n_digits])) || text[n_digits] == '.')) {
    n_points += text[n_digits] == '.';
    n_digits++;
  }
  // 20 characters hold every number that fits in 64 bits; longer ones are typing errors.
  if (n_digits == n_points || n_points > 1 || n_digits > 20) bad_size(text);
  std::string_view suffix = text.substr(n_digits);
  while (!suffix.empty() && suffix.front() == ' ') suffix.remove_prefix(1);
  const double factor = unit_factor(suffix);
  const double bytes = std::stod(std::string(text.substr(0, n_digits))) * factor;
  if (factor == 0 || bytes > std::ldexp(1.0, 62)) bad_size(text);
  return static_cast<uint64_t>(bytes);
}

std::string format_size(uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    unit++;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, kNames[unit]);
}

}  // namespace hob
