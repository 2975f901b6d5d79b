#pragma once
// What the searching quantisers share: four groups of weights side by side, one per vector lane, so
// that the sums of a group need no horizontal adds and the result does not depend on the machine's
// vector width.
//
// A group is fitted by weighted least squares: minimise sum w (x - x^)^2. With the codes fixed the
// best scale (and offset) has a closed form; with scale and offset fixed the best code is the
// nearest one. Neither step can raise the error, but alternating them ends in the next local
// minimum, so it starts from many scales and keeps the best.
#include <cstdint>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace hob::search {

using F4 = float __attribute__((vector_size(16)));
using I4 = int32_t __attribute__((vector_size(16)));
constexpr int kLanes = 4;

inline F4 splat(float x) { return F4{x, x, x, x}; }
// g++ makes four instructions of the plain form on x86.
#if defined(__SSE2__)
inline F4 min4(F4 a, F4 b) { return _mm_min_ps(a, b); }
inline F4 max4(F4 a, F4 b) { return _mm_max_ps(a, b); }
#else
inline F4 min4(F4 a, F4 b) { return a < b ? a : b; }
inline F4 max4(F4 a, F4 b) { return a > b ? a : b; }
#endif
inline F4 abs4(F4 a) { return max4(a, -a); }
inline float sum4(F4 a) { return (a[0] + a[1]) + (a[2] + a[3]); }
// To the nearest integer, |x| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction.
inline F4 round4(F4 x) { return (x + 0x1.8p23f) - 0x1.8p23f; }
// The nearest of the codes low..high.
inline F4 code4(F4 x, float low, float high) {
  return round4(min4(max4(x, splat(low)), splat(high)));
}
// a / b, 0 where b is too small to divide by (then every weight it scales is zero in f16 anyway).
inline F4 ratio4(F4 a, F4 b) {
  const I4 usable = abs4(b) > 1e-30f;
  return usable ? a / (usable ? b : splat(1)) : splat(0);
}

// Four groups of G weights.
template <int G>
struct Quad {
  F4 x[G], w[G], wx[G];
  F4 sum_w, sum_wx, sum_wxx;

  // Group `lane` is x[lane * G ...].
  void load(const float* from, const float* importance) {
    sum_w = sum_wx = sum_wxx = splat(0);
    for (int i = 0; i < G; i++) {
      x[i] = F4{from[i], from[G + i], from[2 * G + i], from[3 * G + i]};
      w[i] = F4{importance[i], importance[G + i], importance[2 * G + i], importance[3 * G + i]};
      wx[i] = w[i] * x[i];
      sum_w += w[i];
      sum_wx += wx[i];
      sum_wxx += wx[i] * x[i];
    }
  }
};

// Codes of a quad, as the blocks store them: group `lane` at out[lane * G ...].
template <int G>
void store_codes(const F4 (&codes)[G], uint8_t* out) {
  for (int i = 0; i < G; i++) {
    for (int lane = 0; lane < kLanes; lane++) {
      out[lane * G + i] = static_cast<uint8_t>(codes[i][lane]);
    }
  }
}

// The largest finite half; also the largest weight that the quantisers accept.
constexpr float kMaxHalf = 65504;
float through_half(float x);  // as a reader will see it; clamped to finite halves

}  // namespace hob::search
