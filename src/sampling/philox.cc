#include "sampling/philox.h"

namespace hob {

PhiloxCounter philox4x32(PhiloxCounter c, PhiloxKey k) {
  constexpr uint64_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;  // multipliers of the two halves
  constexpr uint32_t kWeyl0 = 0x9E3779B9,
                     kWeyl1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1: key schedule
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = kMul0 * c[0];
    const uint64_t p1 = kMul1 * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    k[0] += kWeyl0;
    k[1] += kWeyl1;
  }
  return c;
}

}  // namespace hob
