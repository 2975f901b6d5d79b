#include "model/rope_cache.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace hob {
namespace {

// Pair index at which a wave turns `n_turns` times within the original context.
// Ref: [YaRN] arXiv 2309.00071, eq. 17 solved for the pair.
double yarn_pair_of(const RopeSpec& s, double n_turns) {
  return s.d_rot * std::log(s.original_ctx / (n_turns * 2 * std::numbers::pi)) /
         (2 * std::log(s.theta));
}

// Share of the unscaled frequency per pair: 1 for fast pairs (left alone), 0 for slow ones
// (interpolated).
std::vector<double> yarn_extrapolation(const RopeSpec& s) {
  const double first = yarn_pair_of(s, s.beta_fast), last = yarn_pair_of(s, s.beta_slow);
  const double low = std::max(0.0, s.yarn_whole_pairs ? std::floor(first) : first);
  const double high = std::min(s.d_rot - 1.0, s.yarn_whole_pairs ? std::ceil(last) : last);
  std::vector<double> share(static_cast<size_t>(s.d_rot / 2));
  for (size_t i = 0; i < share.size(); i++)
    share[i] =
        1 - std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0);
  return share;
}

}  // namespace

std::vector<double> rope_frequencies(const RopeSpec& s, std::span<const float> divisors) {
  const size_t n_pairs = static_cast<size_t>(s.d_rot / 2);
  HOB_CHECK(divisors.empty() || divisors.size() == n_pairs);
  std::vector<double> freq(n_pairs);
  for (size_t i = 0; i < n_pairs; i++) {
    freq[i] = std::pow(static_cast<double>(s.theta), -2.0 * static_cast<double>(i) / s.d_rot);
    if (!divisors.empty()) freq[i] /= static_cast<double>(divisors[i]);
  }
  if (s.scaling == RopeScaling::kLinear)
    for (double& f : freq) f /= s.factor;
  if (s.scaling == RopeScaling::kYarn) {
    const std::vector<double> share = yarn_extrapolation(s);
    for (size_t i = 0; i < n_pairs; i++)
      freq[i] = freq[i] / s.factor * (1 - share[i]) + freq[i] * share[i];
  }
  return freq;
}

double yarn_magnitude(double factor, double m) {
  return factor > 1 ? 1 + 0.1 * m * std::log(factor) : 1.0;
}

RopeCache::RopeCache(const RopeSpec& spec, int n_positions, const RopeDivisors& divisors)
    : storage_(bytes(spec, n_positions)),
      n_positions_(n_positions),
      d_rot_(spec.d_rot),
      kind_(spec.kind) {
  // The whole context decides, not a text's length so far: keys in the cache are rotated already.
  const bool is_long = spec.scaling == RopeScaling::kLongRope && n_positions > spec.original_ctx;
  const std::vector<double> freq =
      rope_frequencies(spec, is_long ? divisors.for_long : divisors.all);
  const double magnitude = static_cast<double>(is_long ? spec.long_magnitude : spec.magnitude);
  const size_t n_pairs = freq.size();
  float* cos_out = reinterpret_cast<float*>(storage_.data());
  float* sin_out = cos_out + static_cast<size_t>(n_positions) * n_pairs;
  for (int p = 0; p < n_positions; p++)
    for (size_t i = 0; i < n_pairs; i++) {
      *cos_out++ = static_cast<float>(std::cos(p * freq[i]) * magnitude);
      *sin_out++ = static_cast<float>(std::sin(p * freq[i]) * magnitude);
    }
}

RopeTable RopeCache::table() const {
  const float* cos = reinterpret_cast<const float*>(storage_.data());
  const float* sin = cos + static_cast<size_t>(n_positions_) * static_cast<size_t>(d_rot_ / 2);
  return {cos, sin, n_positions_, d_rot_, kind_};
}

uint64_t RopeCache::bytes(const RopeSpec& spec, int n_positions) {
  return static_cast<uint64_t>(n_positions) * static_cast<uint64_t>(spec.d_rot) * sizeof(float);
}

}  // namespace hob
