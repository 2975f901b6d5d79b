#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace hob::app {

// "1,2, 3" with commas or white space between. Throws UsageError naming what is no number.
std::vector<int32_t> parse_token_list(std::string_view text);

}  // namespace hob::app
