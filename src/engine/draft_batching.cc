#include "engine/draft_batching.h"

#include <algorithm>
#include <cmath>

namespace hob {

void StepCost::add(int n_rows, double seconds) {
  const double keep = 1 - kWeight;
  n_ = n_ * keep + 1;
  x_ = x_ * keep + n_rows;
  y_ = y_ * keep + seconds;
  xx_ = xx_ * keep + static_cast<double>(n_rows) * n_rows;
  xy_ = xy_ * keep + n_rows * seconds;
}

double StepCost::row_s() const {
  const double spread = n_ * xx_ - x_ * x_;
  // All steps alike: nothing is known of rows.
  if (n_ < 2 || spread <= 1e-9 * n_ * xx_) return 0;
  return std::clamp((n_ * xy_ - x_ * y_) / spread, 0.0, y_ / std::max(x_, 1.0));
}

double StepCost::fixed_s() const { return n_ > 0 ? std::max(0.0, (y_ - row_s() * x_) / n_) : 0; }

void ThinkTime::offered(double now_s) {
  if (!decided_s_) return;
  const double took_s = now_s - *decided_s_;
  if (!usual_s_) usual_s_ = took_s;
  deviation_s_ += kWeight * (std::abs(took_s - *usual_s_) - deviation_s_);
  *usual_s_ += kWeight * (took_s - *usual_s_);
}

std::optional<double> ThinkTime::expected_in_s(double now_s) const {
  if (!decided_s_ || !usual_s_) return std::nullopt;
  const double due_s = *decided_s_ + *usual_s_;
  if (now_s < due_s) return due_s - now_s;
  const double late_s = due_s + kGrace * deviation_s_ + kLeastGrace_s;
  return now_s < late_s ? std::optional(late_s - now_s) : std::nullopt;
}

namespace {

// Going now, further draft i begins when this step ends; waiting for k of them, all begin at the
// k-th's arrival a. With T(n) = fixed + n * draft, each of the k then ends T(n) + T(k) - T(n + k) -
// a = fixed - a earlier, and each that is ready a + k * draft later.
double coalesce(const DraftBatchingInput& in) {
  double best = 0, wait = 0;
  for (size_t i = 0; i < in.expected_in_s.size(); i++) {
    const double a = in.expected_in_s[i];
    const auto k = static_cast<double>(i + 1);
    if (in.waited_s + a >= in.fixed_s) break;  // nobody is made to wait longer than a step takes
    const double gain = k * (in.fixed_s - a) - in.n_ready * (a + k * in.draft_s);
    if (gain > best) {
      best = gain;
      wait = a;
    }
  }
  return wait;
}

}  // namespace

double draft_wait_s(const DraftBatchingInput& in) {
  if (in.n_ready == 0 || in.expected_in_s.empty()) return 0;
  switch (in.policy) {
    case DraftBatching::kGo:
      return 0;
    case DraftBatching::kCoalesce:
      return coalesce(in);
    case DraftBatching::kHalves:
      return in.n_ready * 2 >= in.n_answers ? 0 : in.expected_in_s[0];
  }
  return 0;
}

}  // namespace hob
