#pragma once
// Groups with a scale alone: x^ = scale * code, code in -kHalf .. kHalf - 1. The negative side has
// one code more, so the scale's sign matters: both are tried.
#include <algorithm>

#include "tensor/group_search.h"

namespace hob::search {

struct SymmetricSums {
  F4 wcc, wxc;
};
struct SymmetricFit {
  F4 scale = splat(0);
  F4 gain = splat(-1);  // sum w x^2 minus the error
  SymmetricSums sums = {splat(0), splat(0)};

  void keep_better(const SymmetricFit& other) {
    const I4 better = other.gain > gain;
    scale = better ? other.scale : scale;
    gain = better ? other.gain : gain;
    sums.wcc = better ? other.sums.wcc : sums.wcc;
    sums.wxc = better ? other.sums.wxc : sums.wxc;
  }
};

// Codes x * inverse, then the best scale for them.
template <int kHalf, int G>
SymmetricFit symmetric_fit(const Quad<G>& quad, F4 inverse) {
  SymmetricFit fit;
  for (int i = 0; i < G; i++) {
    const F4 code = code4(quad.x[i] * inverse, -kHalf, kHalf - 1);
    fit.sums.wcc += quad.w[i] * code * code;
    fit.sums.wxc += quad.wx[i] * code;
  }
  fit.scale = ratio4(fit.sums.wxc, fit.sums.wcc);
  fit.gain = fit.scale * fit.sums.wxc;
  return fit;
}

// Starts: the largest weight falls between a little beyond the last code and well beyond it, where
// it saturates and the others get finer steps.
template <int kHalf>
inline constexpr float kTopStep = kHalf <= 4 ? 0.25f : 0.35f;
constexpr int kTops = 12;
constexpr int kSymmetricRefits = 2;

template <int kHalf, int G>
SymmetricFit search_symmetric(const Quad<G>& quad) {
  F4 largest = splat(0);
  for (int i = 0; i < G; i++) largest = max4(largest, abs4(quad.x[i]));
  SymmetricFit best;
  const F4 per_largest = ratio4(splat(1), largest);
  for (int i = 0; i < kTops; i++) {
    const F4 inverse = per_largest * (kHalf - 0.75f + kTopStep<kHalf> * static_cast<float>(i));
    best.keep_better(symmetric_fit<kHalf>(quad, inverse));
    best.keep_better(symmetric_fit<kHalf>(quad, -inverse));
  }
  for (int i = 0; i < kSymmetricRefits; i++) {
    best.keep_better(symmetric_fit<kHalf>(quad, ratio4(splat(1), best.scale)));
  }
  return best;
}

struct SymmetricError {
  F4 error;
  SymmetricSums sums;
};
template <int kHalf, int G>
SymmetricError symmetric_error(const Quad<G>& quad, F4 scale) {
  const F4 inverse = ratio4(splat(1), scale);
  SymmetricError out = {splat(0), {splat(0), splat(0)}};
  for (int i = 0; i < G; i++) {
    const F4 code = code4(quad.x[i] * inverse, -kHalf, kHalf - 1);
    const F4 miss = quad.x[i] - scale * code;
    out.error += quad.w[i] * miss * miss;
    out.sums.wcc += quad.w[i] * code * code;
    out.sums.wxc += quad.wx[i] * code;
  }
  return out;
}

// As stored: without sign, 0 .. 2 * kHalf - 1.
template <int kHalf, int G>
void symmetric_codes(const Quad<G>& quad, F4 scale, uint8_t* out) {
  const F4 inverse = ratio4(splat(1), scale);
  F4 codes[G];
  for (int i = 0; i < G; i++) {
    codes[i] = code4(quad.x[i] * inverse, -kHalf, kHalf - 1) + static_cast<float>(kHalf);
  }
  store_codes<G>(codes, out);
}

// A 256-weight block of sixteen groups: x^ = d * scale * code, the scales whole numbers in
// -kHalfScale .. kHalfScale - 1.
template <int kHalf, int kHalfScale>
class SymmetricBlock {
 public:
  static constexpr int kQuads = 4, kGroup = 16;

  void search(const float* x, const float* importance) {
    float largest = 0;
    for (int k = 0; k < kQuads; k++) {
      quads_[k].load(x + k * kLanes * kGroup, importance + k * kLanes * kGroup);
      fits_[k] = search_symmetric<kHalf>(quads_[k]);
      sums_[k] = fits_[k].sums;
      for (int lane = 0; lane < kLanes; lane++) {
        const float scale = fits_[k].scale[lane];
        if (scale * scale > largest * largest) largest = scale;
      }
    }
    choose_unit(largest);
    error_ = settle(d, scales);
    for (int i = 0; i < kRounds && refit(); i++) {
    }
  }
  void codes(uint8_t* out) const {  // [256]
    for (int k = 0; k < kQuads; k++) {
      symmetric_codes<kHalf>(quads_[k], d * scales[k], out + k * kLanes * kGroup);
    }
  }

  float d = 0;        // as it comes back from f16
  F4 scales[kQuads];  // -kHalfScale .. kHalfScale - 1

 private:
  static constexpr int kRounds = 2;
  static constexpr float kWorst = 3e38f;

  // Returns the error with the group search's codes, less sum w x^2.
  float round_scales(float unit, F4* to) const {
    const F4 per_unit = ratio4(splat(1), splat(unit));
    F4 error = splat(0);
    for (int k = 0; k < kQuads; k++) {
      to[k] = code4(fits_[k].scale * per_unit, -kHalfScale, kHalfScale - 1);
      const F4 scale = unit * to[k];
      error += scale * (scale * sums_[k].wcc - 2.0f * sums_[k].wxc);
    }
    return sum4(error);
  }

  // The largest scale on each of the outer codes, of either sign.
  void choose_unit(float largest) {
    float best = kWorst;
    F4 tried[kQuads];
    for (int i = 0; i < 8; i++) {
      const int outer = i % 2 ? kHalfScale - 1 - i / 2 : -kHalfScale + i / 2;
      const float unit = through_half(largest / static_cast<float>(outer));
      const float error = round_scales(unit, tried);
      if (!(error < best)) continue;
      best = error;
      d = unit;
      std::copy(tried, tried + kQuads, scales);
    }
  }

  // Every group's scale to the best neighbour, with the codes that a reader will get.
  float settle(float unit, F4* to) {
    F4 total = splat(0);
    for (int k = 0; k < kQuads; k++) {
      const F4 from = to[k];
      F4 error = splat(kWorst);
      for (int step = -1; step <= 1; step++) {
        const F4 scale = code4(from + static_cast<float>(step), -kHalfScale, kHalfScale - 1);
        const SymmetricError found = symmetric_error<kHalf>(quads_[k], unit * scale);
        const I4 better = found.error < error;
        error = better ? found.error : error;
        to[k] = better ? scale : to[k];
        sums_[k].wcc = better ? found.sums.wcc : sums_[k].wcc;
        sums_[k].wxc = better ? found.sums.wxc : sums_[k].wxc;
      }
      total += error;
    }
    return sum4(total);
  }

  // Least squares for the unit, then new neighbours. False when that no longer helps.
  bool refit() {
    F4 cc = splat(0), xc = splat(0);
    for (int k = 0; k < kQuads; k++) {
      cc += scales[k] * scales[k] * sums_[k].wcc;
      xc += scales[k] * sums_[k].wxc;
    }
    if (!(sum4(cc) > 0)) return false;
    const float new_d = through_half(sum4(xc) / sum4(cc));
    if (new_d == d) return false;
    F4 new_scales[kQuads];
    std::copy(scales, scales + kQuads, new_scales);
    const float error = settle(new_d, new_scales);
    if (!(error < error_)) return false;
    error_ = error;
    d = new_d;
    std::copy(new_scales, new_scales + kQuads, scales);
    return true;
  }

  Quad<kGroup> quads_[kQuads];
  SymmetricFit fits_[kQuads];
  SymmetricSums sums_[kQuads];
  float error_ = 0;
};

}  // namespace hob::search
