#include "model/layers/precision_rule.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hob {

namespace {

// Routers that are sure of their first choice crowd all scores below 1: bins are even in
// -ln(1 - s + kLeast), which is 0 at s = 0 and 13.8 at s = 1.
constexpr double kLeast = 1e-6, kBinsPerUnit = 64;

}  // namespace

void ScoreProfile::add(float score) {
  const double t = -std::log(1 - std::min(1.0, static_cast<double>(score)) + kLeast);
  count_[static_cast<size_t>(std::clamp(static_cast<int>(t * kBinsPerUnit), 0, kBins - 1))]++;
  n_++;
}

float ScoreProfile::quantile(float q) const {
  if (n_ == 0) return 1.f;
  const double want = static_cast<double>(q) * static_cast<double>(n_);
  double seen = 0;
  for (int bin = 0; bin < kBins; bin++) {
    const auto here = static_cast<double>(count_[static_cast<size_t>(bin)]);
    if (seen + here >= want && here > 0)
      return static_cast<float>(
          std::clamp(1 + kLeast - std::exp(-(bin + (want - seen) / here) / kBinsPerUnit), 0.0, 1.0));
    seen += here;
  }
  return 1.f;
}

PrecisionRule::PrecisionRule(const PrecisionOptions& options, int max_choices)
    : options_(options), scores_(static_cast<size_t>(max_choices)) {}

float PrecisionRule::t1() const {
  return options_.t1 ? *options_.t1 : profile_.quantile(options_.q1);
}
float PrecisionRule::t2() const {
  return options_.t2 ? *options_.t2 : profile_.quantile(options_.q2);
}

// s of one row's choices, in their own order. Equal weights: the earlier one counts as the more
// important. NaN weights (a row that fails anyway) come out as 0: wanted high.
void PrecisionRule::scores(const float* weights, int k, float* out) const {
  float total = 0;
  for (int i = 0; i < k; i++) total += weights[i];
  for (int i = 0; i < k; i++) {
    float before = 0;
    for (int j = 0; j < k; j++)
      if (weights[j] > weights[i] || (weights[j] == weights[i] && j < i)) before += weights[j];
    const float s = before / total;
    out[i] = s > 0 ? s : 0.f;
  }
}

void PrecisionRule::apply(int n_choices, const float* scores, Want* wants) const {
  const float low_from = t1();
  const float skip_from = options_.mode == PrecisionMode::kMixedSkip ? t2() : INFINITY;
  for (int i = 0; i < n_choices; i++) {
    const float s = scores[i];
    wants[i] = s == 0 || s <= low_from ? Want::kHigh : s <= skip_from ? Want::kLow : Want::kSkip;
  }
}

void PrecisionRule::decide(const float* weights, int n, int k, Want* wants) {
  HOB_CHECK(static_cast<size_t>(n) * static_cast<size_t>(k) <= scores_.size());
  for (int r = 0; r < n; r++) {
    float* s = scores_.data() + r * k;
    scores(weights + r * k, k, s);
    for (int i = 0; i < k; i++)
      if (s[i] > 0) profile_.add(s[i]);
  }
  apply(n * k, scores_.data(), wants);
}

void PrecisionRule::guess(const float* weights, int n, int k, Want* wants) const {
  HOB_CHECK(static_cast<size_t>(n) * static_cast<size_t>(k) <= scores_.size());
  for (int r = 0; r < n; r++) scores(weights + r * k, k, scores_.data() + r * k);
  apply(n * k, scores_.data(), wants);
}

}  // namespace hob
