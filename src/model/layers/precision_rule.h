#pragma once
// Token-level choice of precision. Ref: [HOBBIT] §3.2; research notes, hobbit §1.3.
// With the k experts of a row ordered by gate weight and the weights normalised over the k, the
// score of rank i is s_i = sum of the weights before it: how little it matters. Rank 0 has s = 0
// and is always wanted high; s <= T1 high; T1 < s <= T2 low; beyond T2 skipped (mode mixed+skip).
#include <array>
#include <cstdint>
#include <vector>

#include "experts/expert_cache.h"
#include "model/moe_options.h"

namespace hob {

// Which share of the scores lies below a value: a histogram over [0, 1]. Fed by the routing itself,
// so that the thresholds fit any model; the first layer of the first step has n * (k - 1) samples.
class ScoreProfile {
 public:
  void add(float score);
  float quantile(float q) const;  // 1 without samples
  uint64_t n() const { return n_; }

 private:
  static constexpr int kBins = 896;  // 14 units
  std::array<uint64_t, kBins> count_{};
  uint64_t n_ = 0;
};

class PrecisionRule {
 public:
  PrecisionRule(const PrecisionOptions& options, int max_choices);

  const PrecisionOptions& options() const { return options_; }
  bool exact() const { return options_.mode == PrecisionMode::kExact; }
  // wants [n, k] for weights [n, k] (any order within a row); learns the scores.
  void decide(const float* weights, int n, int k, Want* wants);
  // The same without learning: for predictions.
  void guess(const float* weights, int n, int k, Want* wants);
  float t1() const;
  float t2() const;
  float score_quantile(float q) const { return profile_.quantile(q); }

 private:
  void score(const float* weights, int n, int k);  // into scores_
  void apply(int n, int k, Want* wants) const;
  PrecisionOptions options_;
  ScoreProfile profile_;
  std::vector<float> scores_;  // [max_choices], scratch
};

}  // namespace hob
