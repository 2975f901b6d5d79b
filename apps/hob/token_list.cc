#include "token_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "command.h"

namespace hob::app {

std::vector<int32_t> parse_token_list(std::string_view text) {
  constexpr std::string_view kBetween = ", \t\r\n";
  std::vector<int32_t> ids;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(kBetween), text.size()));
    if (text.empty()) return ids;
    const std::string_view word = text.substr(0, text.find_first_of(kBetween));
    int32_t id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size())
      throw UsageError(
          fmt::format("[tokens] expected ids separated by commas, got '{}'", word.substr(0, 40)));
    ids.push_back(id);
    text.remove_prefix(word.size());
  }
}

}  // namespace hob::app
