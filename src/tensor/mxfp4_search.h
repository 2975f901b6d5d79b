#pragma once
// MXFP4: the scale of a block is a power of two, so that the search tries a few of them.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "tensor/blocks.h"

namespace hob::search {

// Index of the kMXFP4Values nearest to x.
inline uint8_t mxfp4_index(float x) {
  constexpr float kMiddles[] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
  int index = 0;
  for (const float middle : kMiddles) index += std::fabs(x) > middle;
  return static_cast<uint8_t>(index != 0 && x < 0 ? index + 8 : index);
}

// Fills codes[32] and returns the exponent as the block stores it.
inline uint8_t search_mxfp4(const float* x, const float* w, uint8_t* codes) {
  std::fill(codes, codes + kBlock32, uint8_t{0});
  float largest = 0;
  for (int j = 0; j < kBlock32; j++) largest = std::max(largest, std::fabs(x[j]));
  if (largest == 0) return 0;
  int exponent = 0;  // largest in [1/2, 1) * 2^exponent; values reach 12
  std::frexp(largest, &exponent);
  uint8_t stored = 0;
  double best = std::numeric_limits<double>::infinity();
  for (int power = exponent - 5; power <= exponent - 2; power++) {
    const int e = power + 128;  // the reader's scale for the doubled values is 2^(e - 128)
    if (e < 2 || e > 254) continue;
    const float scale = std::ldexp(1.0f, power), inverse = std::ldexp(1.0f, -power);
    uint8_t tried[kBlock32];
    double error = 0;
    for (int j = 0; j < kBlock32; j++) {
      tried[j] = mxfp4_index(x[j] * inverse);
      const double miss = x[j] - scale * static_cast<float>(kMXFP4Values[tried[j]]);
      error += static_cast<double>(w[j]) * miss * miss;
    }
    if (!(error < best)) continue;
    best = error;
    stored = static_cast<uint8_t>(e);
    std::copy(tried, tried + kBlock32, codes);
  }
  return stored;
}

}  // namespace hob::search
