#pragma once
#include <cstdint>

namespace hob {

// The smallest multiple of `unit` >= n. unit > 0; n + unit must not overflow.
constexpr uint64_t round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace hob
