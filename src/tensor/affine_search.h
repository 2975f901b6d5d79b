#pragma once
// Groups with a scale and an offset: x^ = scale * q + offset, q in 0..kMaxCode.
#include <algorithm>

#include "tensor/group_search.h"

namespace hob::search {

// Sums over a group with its codes q: with them the error of any (scale, offset) is a closed form.
struct AffineSums {
  F4 wq, wqq, wxq;
};
struct AffineFit {
  F4 scale = splat(0), offset = splat(0);
  F4 gain = splat(-1);  // sum w x^2 minus the error: larger is better
  AffineSums sums = {splat(0), splat(0), splat(0)};

  void keep_better(const AffineFit& other) {
    const I4 better = other.gain > gain;
    scale = better ? other.scale : scale;
    offset = better ? other.offset : offset;
    gain = better ? other.gain : gain;
    sums.wq = better ? other.sums.wq : sums.wq;
    sums.wqq = better ? other.sums.wqq : sums.wqq;
    sums.wxq = better ? other.sums.wxq : sums.wxq;
  }
};

template <int kMaxCode, int G>
AffineSums affine_sums(const Quad<G>& quad, F4 scale, F4 offset) {
  const F4 inverse = ratio4(splat(1), scale), bias = -offset * inverse;
  AffineSums sums = {splat(0), splat(0), splat(0)};
  for (int i = 0; i < G; i++) {
    const F4 q = code4(quad.x[i] * inverse + bias, 0, kMaxCode), wq = quad.w[i] * q;
    sums.wq += wq;
    sums.wqq += wq * q;
    sums.wxq += quad.wx[i] * q;
  }
  return sums;
}

// Least squares for fixed codes. With kNoPositiveOffset (the K types store minus the offset in an
// unsigned number) the offset is at most 0; the error is convex, so the bound itself is then best.
template <bool kNoPositiveOffset, int G>
AffineFit affine_solve(const Quad<G>& quad, const AffineSums& sums) {
  AffineFit fit;
  fit.sums = sums;
  const F4 determinant = quad.sum_w * sums.wqq - sums.wq * sums.wq;
  // All codes equal: the determinant is 0 but for rounding, and the offset alone says it all.
  const I4 spread = determinant > 1e-6f * quad.sum_w * sums.wqq;
  const F4 slope = ratio4(quad.sum_w * sums.wxq - quad.sum_wx * sums.wq, determinant);
  fit.scale = spread ? slope : splat(0);
  fit.offset = ratio4(quad.sum_wx - fit.scale * sums.wq, quad.sum_w);
  if constexpr (kNoPositiveOffset) {
    const I4 positive = fit.offset > 0.0f;
    fit.scale = positive ? ratio4(sums.wxq, sums.wqq) : fit.scale;
    fit.offset = positive ? splat(0) : fit.offset;
  }
  fit.gain = fit.scale * sums.wxq + fit.offset * quad.sum_wx;
  return fit;
}

// Starts: the range of the group with a part of it cut off at either end. Few codes gain from deep
// cuts (an outlier saturates, all others get finer steps), many codes hardly.
template <int kMaxCode>
inline constexpr float kCutStep = kMaxCode <= 3    ? 0.07f
                                  : kMaxCode <= 15 ? 0.02f
                                                   : 0.01f;
constexpr int kCuts = 4;
constexpr int kRefits = 3;

template <int kMaxCode, bool kNoPositiveOffset, int G>
AffineFit search_affine(const Quad<G>& quad) {
  F4 low = quad.x[0], high = quad.x[0];
  for (int i = 1; i < G; i++) {
    low = min4(low, quad.x[i]);
    high = max4(high, quad.x[i]);
  }
  if constexpr (kNoPositiveOffset) low = min4(low, splat(0));
  const F4 range = high - low;
  AffineFit best;
  for (int cut_low = 0; cut_low < kCuts; cut_low++) {
    for (int cut_high = 0; cut_high < kCuts; cut_high++) {
      const F4 offset = low + range * (kCutStep<kMaxCode> * static_cast<float>(cut_low));
      const float kept = 1 - kCutStep<kMaxCode> * static_cast<float>(cut_low + cut_high);
      const F4 scale = range * (kept / kMaxCode);
      best.keep_better(
          affine_solve<kNoPositiveOffset>(quad, affine_sums<kMaxCode>(quad, scale, offset)));
    }
  }
  for (int i = 0; i < kRefits; i++) {
    best.keep_better(affine_solve<kNoPositiveOffset>(
        quad, affine_sums<kMaxCode>(quad, best.scale, best.offset)));
  }
  return best;
}

// Error of a scale and an offset with the nearest codes, and their sums.
struct AffineError {
  F4 error;
  AffineSums sums;
};
template <int kMaxCode, int G>
AffineError affine_error(const Quad<G>& quad, F4 scale, F4 offset) {
  const F4 inverse = ratio4(splat(1), scale), bias = -offset * inverse;
  AffineError out = {splat(0), {splat(0), splat(0), splat(0)}};
  for (int i = 0; i < G; i++) {
    const F4 q = code4(quad.x[i] * inverse + bias, 0, kMaxCode), wq = quad.w[i] * q;
    const F4 miss = quad.x[i] - (scale * q + offset);
    out.error += quad.w[i] * miss * miss;
    out.sums.wq += wq;
    out.sums.wqq += wq * q;
    out.sums.wxq += quad.wx[i] * q;
  }
  return out;
}

template <int kMaxCode, int G>
void affine_codes(const Quad<G>& quad, F4 scale, F4 offset, uint8_t* out) {
  const F4 inverse = ratio4(splat(1), scale), bias = -offset * inverse;
  F4 codes[G];
  for (int i = 0; i < G; i++) codes[i] = code4(quad.x[i] * inverse + bias, 0, kMaxCode);
  store_codes<G>(codes, out);
}

// A 256-weight block of kQuads quads: the scales and offsets of its groups are whole multiples
// (0..kMaxScale) of two halves, x^ = d * sc * q - dmin * mn.
template <int G, int kQuads, int kMaxCode, int kMaxScale>
class AffineBlock {
 public:
  void search(const float* x, const float* importance) {
    F4 top_scale = splat(0), top_min = splat(0);
    for (int k = 0; k < kQuads; k++) {
      quads_[k].load(x + k * kLanes * G, importance + k * kLanes * G);
      fits_[k] = search_affine<kMaxCode, true>(quads_[k]);
      sums_[k] = fits_[k].sums;
      top_scale = max4(top_scale, fits_[k].scale);
      top_min = max4(top_min, -fits_[k].offset);
    }
    choose_units(top(top_scale), top(top_min));
    error_ = settle(d, dmin, scales, mins);
    for (int i = 0; i < kRounds && refit(); i++) {
    }
  }
  void codes(uint8_t* out) const {  // [256]
    for (int k = 0; k < kQuads; k++) {
      affine_codes<kMaxCode>(quads_[k], d * scales[k], -dmin * mins[k], out + k * kLanes * G);
    }
  }

  float d = 0, dmin = 0;            // as they come back from f16
  F4 scales[kQuads], mins[kQuads];  // 0..kMaxScale

 private:
  static constexpr int kRounds = 2;
  static float top(F4 a) { return std::max(std::max(a[0], a[1]), std::max(a[2], a[3])); }

  // Scales and minima as multiples of (unit, min_unit), codes as the group search left them: the
  // minimum that is best for the rounded scale. Returns the error, less sum w x^2.
  float round_scales(float unit, float min_unit, F4* to_scales, F4* to_mins) const {
    const F4 per_unit = ratio4(splat(1), splat(unit)), per_min = ratio4(splat(1), splat(min_unit));
    F4 error = splat(0);
    for (int k = 0; k < kQuads; k++) {
      const AffineSums& s = sums_[k];
      to_scales[k] = code4(fits_[k].scale * per_unit, 0, kMaxScale);
      const F4 scale = unit * to_scales[k];
      const F4 wanted = ratio4(quads_[k].sum_wx - scale * s.wq, quads_[k].sum_w);
      to_mins[k] = code4(-wanted * per_min, 0, kMaxScale);
      const F4 offset = -min_unit * to_mins[k];
      error += scale * (scale * s.wqq - 2.0f * s.wxq) +
               offset * (offset * quads_[k].sum_w + 2.0f * (scale * s.wq - quads_[k].sum_wx));
    }
    return sum4(error);
  }

  // With few steps it matters where the steps lie: a slightly larger unit may fit all groups
  // better.
  void choose_units(float top_scale, float top_min) {
    constexpr int kTries = kMaxScale <= 15 ? 12 : 4;
    const auto unit = [](float largest, int i) {
      return through_half(largest / (kMaxScale + 0.5f - 0.5f * static_cast<float>(i)));
    };
    d = unit(top_scale, 1);
    dmin = unit(top_min, 1);
    float best = round_scales(d, dmin, scales, mins);
    F4 try_scales[kQuads], try_mins[kQuads];
    for (const bool is_min : {false, true}) {
      for (int i = 0; i < kTries; i++) {
        const float try_d = is_min ? d : unit(top_scale, i);
        const float try_dmin = is_min ? unit(top_min, i) : dmin;
        const float error = round_scales(try_d, try_dmin, try_scales, try_mins);
        if (!(error < best)) continue;
        best = error;
        d = try_d;
        dmin = try_dmin;
        std::copy(try_scales, try_scales + kQuads, scales);
        std::copy(try_mins, try_mins + kQuads, mins);
      }
    }
  }

  // Moves every group's scale and minimum to the best neighbour, now with the codes that a reader
  // will get; leaves the codes' sums. Returns the error of the block.
  float settle(float unit, float min_unit, F4* to_scales, F4* to_mins) {
    F4 total = splat(0);
    for (int k = 0; k < kQuads; k++) {
      const F4 scale0 = to_scales[k], min0 = to_mins[k];
      F4 error = splat(kWorst);
      for (int step = 0; step < 9; step++) {
        const float scale_step = static_cast<float>(step % 3 - 1);
        const float min_step = static_cast<float>(step / 3 - 1);
        const F4 scale = code4(scale0 + scale_step, 0, kMaxScale);
        const F4 min = code4(min0 + min_step, 0, kMaxScale);
        const AffineError found = affine_error<kMaxCode>(quads_[k], unit * scale, -min_unit * min);
        const I4 better = found.error < error;
        error = better ? found.error : error;
        to_scales[k] = better ? scale : to_scales[k];
        to_mins[k] = better ? min : to_mins[k];
        AffineSums& sums = sums_[k];
        sums.wq = better ? found.sums.wq : sums.wq;
        sums.wqq = better ? found.sums.wqq : sums.wqq;
        sums.wxq = better ? found.sums.wxq : sums.wxq;
      }
      total += error;
    }
    return sum4(total);
  }

  // Least squares for the two units with everything else fixed, then new neighbours. False when
  // that no longer helps.
  bool refit() {
    F4 aa = splat(0), ab = splat(0), bb = splat(0), xa = splat(0), xb = splat(0);
    for (int k = 0; k < kQuads; k++) {
      const AffineSums& s = sums_[k];
      aa += scales[k] * scales[k] * s.wqq;
      ab -= scales[k] * mins[k] * s.wq;
      bb += mins[k] * mins[k] * quads_[k].sum_w;
      xa += scales[k] * s.wxq;
      xb -= mins[k] * quads_[k].sum_wx;
    }
    const double a2 = sum4(aa), ab2 = sum4(ab), b2 = sum4(bb), a1 = sum4(xa), b1 = sum4(xb);
    const double determinant = a2 * b2 - ab2 * ab2;
    const bool solvable = determinant > 1e-9 * a2 * b2;  // not without minima
    if (!(a2 > 0)) return false;
    const double best_d = solvable ? (a1 * b2 - b1 * ab2) / determinant : (a1 - ab2 * dmin) / a2;
    const double best_dmin = solvable ? (b1 * a2 - a1 * ab2) / determinant : dmin;
    const float new_d = through_half(static_cast<float>(best_d));
    const float new_dmin = through_half(static_cast<float>(best_dmin));
    if (new_d <= 0 || new_dmin < 0 || (new_d == d && new_dmin == dmin)) return false;
    F4 new_scales[kQuads], new_mins[kQuads];
    std::copy(scales, scales + kQuads, new_scales);
    std::copy(mins, mins + kQuads, new_mins);
    const float error = settle(new_d, new_dmin, new_scales, new_mins);
    if (!(error < error_)) return false;
    error_ = error;
    d = new_d;
    dmin = new_dmin;
    std::copy(new_scales, new_scales + kQuads, scales);
    std::copy(new_mins, new_mins + kQuads, mins);
    return true;
  }

  static constexpr float kWorst = 3e38f;
  Quad<G> quads_[kQuads];
  AffineFit fits_[kQuads];
  AffineSums sums_[kQuads];  // of the codes that go with the latest scales
  float error_ = 0;
};

}  // namespace hob::search
