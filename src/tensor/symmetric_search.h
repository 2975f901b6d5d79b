#pragma once
// Groups with a scale alone: x^ = scale * code. The codes are not the same on both sides of zero,
// so the scale's sign matters: both are tried.
#include <algorithm>
#include <array>
#include <cmath>

#include "tensor/blocks.h"
#include "tensor/group_search.h"

namespace hob::search {

// A set of codes: the nearest to x / scale; as blocks store it; and how the search starts: the
// largest weight falls on kTop, kTop + kTopStep, ...: between a little beyond the last code and
// well beyond it, where it saturates and the others get finer steps.

// -kHalf .. kHalf - 1, stored without sign.
template <int kHalf>
struct EvenCodes {
  static constexpr float kTop = kHalf - 0.75f, kTopStep = kHalf <= 4 ? 0.25f : 0.35f;
  static F4 nearest(F4 x) { return code4(x, -kHalf, kHalf - 1); }
  static F4 stored(F4 x) { return nearest(x) + static_cast<float>(kHalf); }
};

// kIQ4Values, stored as their indices. Between two values the middle is a multiple of 1/2, so the
// place of 2x among the whole numbers tells the nearest.
struct IQ4Codes {
  static constexpr float kTop = 104, kTopStep = 5;
  static F4 nearest(F4 x) {
    F4 out;
    for (int i = 0; i < kLanes; i++) out[i] = kIQ4Values[index(x[i])];
    return out;
  }
  static F4 stored(F4 x) {
    F4 out;
    for (int i = 0; i < kLanes; i++) out[i] = index(x[i]);
    return out;
  }

 private:
  static constexpr int kReach = 256;
  static constexpr std::array<uint8_t, 2 * kReach> make_places() {
    std::array<uint8_t, 2 * kReach> places = {};
    for (int at = -kReach; at < kReach; at++) {  // 2x in [at, at + 1)
      size_t best = 0;
      while (best < 15 && at >= kIQ4Values[best] + kIQ4Values[best + 1]) best++;
      places[static_cast<size_t>(at + kReach)] = static_cast<uint8_t>(best);
    }
    return places;
  }
  static uint8_t index(float x) {
    static constexpr std::array<uint8_t, 2 * kReach> kPlaces = make_places();
    const float inside = std::min(std::max(2 * x + kReach, 0.0f), 2.0f * kReach - 1);
    return kPlaces[static_cast<size_t>(inside)];
  }
};

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
template <class Codes, int G>
SymmetricFit symmetric_fit(const Quad<G>& quad, F4 inverse) {
  SymmetricFit fit;
  for (int i = 0; i < G; i++) {
    const F4 code = Codes::nearest(quad.x[i] * inverse);
    fit.sums.wcc += quad.w[i] * code * code;
    fit.sums.wxc += quad.wx[i] * code;
  }
  fit.scale = ratio4(fit.sums.wxc, fit.sums.wcc);
  fit.gain = fit.scale * fit.sums.wxc;
  return fit;
}

constexpr int kTops = 12;
constexpr int kSymmetricRefits = 2;

template <class Codes, int G>
SymmetricFit search_symmetric(const Quad<G>& quad) {
  F4 largest = splat(0);
  for (int i = 0; i < G; i++) largest = max4(largest, abs4(quad.x[i]));
  SymmetricFit best;
  const F4 per_largest = ratio4(splat(1), largest);
  for (int i = 0; i < kTops; i++) {
    const F4 inverse = per_largest * (Codes::kTop + Codes::kTopStep * static_cast<float>(i));
    best.keep_better(symmetric_fit<Codes>(quad, inverse));
    best.keep_better(symmetric_fit<Codes>(quad, -inverse));
  }
  for (int i = 0; i < kSymmetricRefits; i++) {
    best.keep_better(symmetric_fit<Codes>(quad, ratio4(splat(1), best.scale)));
  }
  return best;
}

struct SymmetricError {
  F4 error;
  SymmetricSums sums;
};
template <class Codes, int G>
SymmetricError symmetric_error(const Quad<G>& quad, F4 scale) {
  const F4 inverse = ratio4(splat(1), scale);
  SymmetricError out = {splat(0), {splat(0), splat(0)}};
  for (int i = 0; i < G; i++) {
    const F4 code = Codes::nearest(quad.x[i] * inverse);
    const F4 miss = quad.x[i] - scale * code;
    out.error += quad.w[i] * miss * miss;
    out.sums.wcc += quad.w[i] * code * code;
    out.sums.wxc += quad.wx[i] * code;
  }
  return out;
}

// As stored.
template <class Codes, int G>
void symmetric_codes(const Quad<G>& quad, F4 scale, uint8_t* out) {
  const F4 inverse = ratio4(splat(1), scale);
  F4 codes[G];
  for (int i = 0; i < G; i++) {
    codes[i] = Codes::stored(quad.x[i] * inverse);
  }
  store_codes<G>(codes, out);
}

// A 256-weight block of groups of kGroup: x^ = d * scale * code, the scales whole numbers in
// -kHalfScale .. kHalfScale - 1.
template <class Codes, int kGroup, int kHalfScale>
class SymmetricBlock {
 public:
  static constexpr int kQuads = kBlock256 / (kGroup * kLanes);

  void search(const float* x, const float* importance) {
    float largest = 0;
    for (int k = 0; k < kQuads; k++) {
      quads_[k].load(x + k * kLanes * kGroup, importance + k * kLanes * kGroup);
      fits_[k] = search_symmetric<Codes>(quads_[k]);
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
      symmetric_codes<Codes>(quads_[k], d * scales[k], out + k * kLanes * kGroup);
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
        const SymmetricError found = symmetric_error<Codes>(quads_[k], unit * scale);
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
