#pragma once
// cos/sin of every position, computed once in double precision.
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/aligned_buffer.h"
#include "model/spec.h"

namespace hob {

// Angle per position of each of the d_rot/2 pairs, scaling included. `divisors`: empty, or one per
// pair (Llama 3, LongRoPE).
std::vector<double> rope_frequencies(const RopeSpec& spec, std::span<const float> divisors);
// YaRN's factor on cos and sin: 1 + 0.1 m ln(factor).
double yarn_magnitude(double factor, double m);

// Per pair; empty: all 1.
struct RopeDivisors {
  std::vector<float> all;       // Llama 3; LongRoPE within the original context
  std::vector<float> for_long;  // LongRoPE in a longer one
};

class RopeCache {
 public:
  RopeCache() = default;
  RopeCache(const RopeSpec& spec, int n_positions, const RopeDivisors& divisors);
  RopeTable table() const;
  static uint64_t bytes(const RopeSpec& spec, int n_positions);

 private:
  AlignedBuffer storage_;  // cos [n_positions, d_rot/2], then sin
  int n_positions_ = 0;
  int d_rot_ = 0;
  RopeKind kind_ = RopeKind::kHalves;
};

}  // namespace hob
