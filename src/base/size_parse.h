#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace hob {

// "2G", "512M", "1.5GiB", "64k", "1048576", "100B". All suffixes are powers of 1024, with or
// without "B"/"iB", in any case: users of memory limits mean what `docker --memory` and systemd
// mean. Throws Error(kInvalidArgument).
uint64_t parse_size(std::string_view text);

// "1.46 GiB", "12.0 MiB", "17 B": for people; three significant digits or so.
std::string format_size(uint64_t bytes);

}  // namespace hob
