#include "sampling/philox.h"

namespace hob {
namespace {

constexpr uint64_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;  // multipliers of the two halves
constexpr uint32_t kWeyl0 = 0x9E3779B9,
                   kWeyl1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1: key schedule

// One body, compiled for several instruction sets: loops over lanes that the compiler turns into
// vector code. Groups of 16 keep the state of a group in registers.
[[gnu::always_inline]] inline void lanes_body(PhiloxCounter first, PhiloxKey key,
                                              PhiloxLanes& out) {
  constexpr int kGroup = 16;
  for (int base = 0; base < kPhiloxLanes; base += kGroup) {
    alignas(64) uint32_t c[4][kGroup];
    for (int i = 0; i < kGroup; i++) {
      c[0][i] = first[0];
      c[1][i] = first[1];
      c[2][i] = first[2] + static_cast<uint32_t>(base + i);
      c[3][i] = first[3];
    }
    PhiloxKey k = key;
    for (int round = 0; round < 10; round++) {
      for (int i = 0; i < kGroup; i++) {
        const uint64_t p0 = kMul0 * c[0][i], p1 = kMul1 * c[2][i];
        const uint32_t c1 = c[1][i], c3 = c[3][i];
        c[0][i] = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k[0];
        c[1][i] = static_cast<uint32_t>(p1);
        c[2][i] = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k[1];
        c[3][i] = static_cast<uint32_t>(p0);
      }
      k[0] += kWeyl0;
      k[1] += kWeyl1;
    }
    for (int i = 0; i < kGroup; i++) out.word0[base + i] = c[0][i];
    for (int i = 0; i < kGroup; i++) out.word1[base + i] = c[1][i];
  }
}

void lanes_plain(PhiloxCounter first, PhiloxKey key, PhiloxLanes& out) {
  lanes_body(first, key, out);
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] void lanes_avx2(PhiloxCounter first, PhiloxKey key, PhiloxLanes& out) {
  lanes_body(first, key, out);
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]] void lanes_avx512(
    PhiloxCounter first, PhiloxKey key, PhiloxLanes& out) {
  lanes_body(first, key, out);
}
#endif

using Lanes = void (*)(PhiloxCounter, PhiloxKey, PhiloxLanes&);

Lanes best_lanes() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return lanes_avx512;
  if (__builtin_cpu_supports("avx2")) return lanes_avx2;
#endif
  return lanes_plain;
}

}  // namespace

PhiloxCounter philox4x32(PhiloxCounter c, PhiloxKey k) {
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

void philox_lanes(PhiloxCounter first, PhiloxKey key, PhiloxLanes& out) {
  static const Lanes lanes = best_lanes();
  lanes(first, key, out);
}

}  // namespace hob
