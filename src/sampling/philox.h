#pragma once
// Philox4x32-10, the counter-based generator. Ref: Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3", SC'11; the constants and test vectors are those of the Random123 library.
#include <array>
#include <cstdint>

namespace hob {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

// Ten rounds; a bijection of the counter for each key.
PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key);

// Words 0 and 1 of the results for kPhiloxLanes consecutive values of counter[2], side by side: the
// same numbers, several times as fast.
inline constexpr int kPhiloxLanes = 64;
struct PhiloxLanes {
  alignas(64) uint32_t word0[kPhiloxLanes];
  alignas(64) uint32_t word1[kPhiloxLanes];
};
void philox_lanes(PhiloxCounter first, PhiloxKey key, PhiloxLanes& out);

}  // namespace hob
