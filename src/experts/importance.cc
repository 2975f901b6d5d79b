#include "experts/importance.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hob {

void unimportance(std::span<const float> weights, std::span<float> scores) {
  HOB_CHECK(weights.size() == scores.size());
  double total = 0;
  for (const float w : weights) total += w;
  // k is 2 to 16: comparing all pairs needs no buffer and no sort.
  for (size_t i = 0; i < weights.size(); i++) {
    double above = 0;
    for (size_t j = 0; j < weights.size(); j++)
      if (weights[j] > weights[i] || (weights[j] == weights[i] && j < i)) above += weights[j];
    scores[i] = total > 0 ? static_cast<float>(above / total) : 0.f;
  }
}

Want wanted(float score, bool rank0, PrecisionMode mode, const Thresholds& t) {
  if (mode == PrecisionMode::kExact || rank0 || score <= t.t1) return Want::kHigh;
  if (mode == PrecisionMode::kMixed || score <= t.t2) return Want::kLow;
  return Want::kSkip;
}

Thresholds quantile_thresholds(std::vector<float>& scores, double q1, double q2) {
  HOB_CHECK(q1 >= 0 && q1 <= q2 && q2 <= 1);
  if (scores.empty()) return {};
  const auto at = [&](double q) {
    const double position = q * static_cast<double>(scores.size() - 1);
    const auto nth = scores.begin() + static_cast<std::ptrdiff_t>(std::lround(position));
    std::nth_element(scores.begin(), nth, scores.end());
    return *nth;
  };
  return {.t1 = at(q1), .t2 = at(q2)};
}

}  // namespace hob
