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
// pair (Llama 3).
std::vector<double> rope_frequencies(const RopeSpec& spec, std::span<const float> divisors);
// Factor on cos and sin: 1 except for YaRN.
double rope_magnitude(const RopeSpec& spec);

class RopeCache {
 public:
  RopeCache() = default;
  RopeCache(const RopeSpec& spec, int n_positions, std::span<const float> divisors);
  RopeTable table() const;
  static uint64_t bytes(const RopeSpec& spec, int n_positions);

 private:
  AlignedBuffer storage_;  // cos [n_positions, d_rot/2], then sin
  int n_positions_ = 0;
  int d_rot_ = 0;
  RopeKind kind_ = RopeKind::kHalves;
};

}  // namespace hob
