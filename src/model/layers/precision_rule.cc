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
      return static_cast<float>(std::clamp(
          1 + kLeast - std::exp(-(bin + (want - seen) / here) / kBinsPerUnit), 0.0, 1.0));
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

void PrecisionRule::apply(int n, int k, Want* wants) const {
  const Thresholds thresholds{t1(), t2()};
  for (size_t i = 0; i < static_cast<size_t>(n) * static_cast<size_t>(k); i++)
    wants[i] = wanted(scores_[i], scores_[i] == 0, options_.mode, thresholds);
}

void PrecisionRule::score(const float* weights, int n, int k) {
  const size_t width = static_cast<size_t>(k);
  HOB_CHECK(static_cast<size_t>(n) * width <= scores_.size());
  for (size_t at = 0; at < static_cast<size_t>(n) * width; at += width)
    unimportance({weights + at, width}, std::span(scores_).subspan(at, width));
}

void PrecisionRule::decide(const float* weights, int n, int k, Want* wants) {
  score(weights, n, k);
  for (size_t i = 0; i < static_cast<size_t>(n) * static_cast<size_t>(k); i++)
    if (scores_[i] > 0) profile_.add(scores_[i]);
  apply(n, k, wants);
}

void PrecisionRule::guess(const float* weights, int n, int k, Want* wants) {
  score(weights, n, k);
  apply(n, k, wants);
}

}  // namespace hob
