#include "sampling/philox.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hob {
namespace {

constexpr uint64_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;  // multipliers of the two halves
constexpr uint32_t kWeyl0 = 0x9E3779B9,
                   kWeyl1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1: key schedule

void lanes_plain(PhiloxCounter first, PhiloxKey key, PhiloxLanes& out) {
  for (uint32_t i = 0; i < kPhiloxLanes; i++) {
    const PhiloxCounter r = philox4x32({first[0], first[1], first[2] + i, first[3]}, key);
    out.word0[i] = r[0];
    out.word1[i] = r[1];
  }
}

#if defined(__x86_64__)
// One 32-bit word in each 64-bit lane. The multiplication reads low halves only, so what the other
// operations leave in the high halves does no harm; what is stored is cut to its low half.
[[gnu::target("avx2")]] void lanes_avx2(PhiloxCounter first, PhiloxKey key, PhiloxLanes& out) {
  const __m256i mul0 = _mm256_set1_epi64x(static_cast<int64_t>(kMul0)),
                mul1 = _mm256_set1_epi64x(static_cast<int64_t>(kMul1)),
                even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
  for (int base = 0; base < kPhiloxLanes; base += 4) {
    const auto at = first[2] + static_cast<uint32_t>(base);
    __m256i c0 = _mm256_set1_epi64x(first[0]), c1 = _mm256_set1_epi64x(first[1]),
            c2 = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(at)),
                                  _mm256_setr_epi32(0, 0, 1, 0, 2, 0, 3, 0)),
            c3 = _mm256_set1_epi64x(first[3]);
    PhiloxKey k = key;
    for (int round = 0; round < 10; round++) {
      const __m256i p0 = _mm256_mul_epu32(c0, mul0), p1 = _mm256_mul_epu32(c2, mul1);
      c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1),
                            _mm256_set1_epi64x(k[0]));
      c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3),
                            _mm256_set1_epi64x(k[1]));
      c1 = p1;
      c3 = p0;
      k[0] += kWeyl0;
      k[1] += kWeyl1;
    }
    _mm_store_si128(reinterpret_cast<__m128i*>(out.word0 + base),
                    _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(c0, even)));
    _mm_store_si128(reinterpret_cast<__m128i*>(out.word1 + base),
                    _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(c1, even)));
  }
}

#endif

using Lanes = void (*)(PhiloxCounter, PhiloxKey, PhiloxLanes&);

Lanes best_lanes() {
#if defined(__x86_64__)
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
