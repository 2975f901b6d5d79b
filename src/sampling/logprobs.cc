#include "sampling/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace hob {

double log_sum_exp(std::span<const float> logits) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(x - best);
  return best + std::log(sum);
}

TokenLogprob token_logprob(std::span<const float> logits, int32_t token, int n_top) {
  HOB_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size() && n_top >= 0);
  const double total = log_sum_exp(logits);
  if (!std::isfinite(total))  // NaN among them, +inf, or nothing but -inf
    fail(Code::kInternal, "[logprobs] expected finite logits, their sum is {}", total);
  const float own = logits[static_cast<size_t>(token)];
  TokenLogprob out{
      .token = token, .logprob = static_cast<float>(own - total), .rank = 1, .top = {}};
  for (float x : logits) out.rank += x > own;

  const size_t n = std::min(static_cast<size_t>(n_top), logits.size());
  if (n == 0) return out;
  std::vector<int32_t> best(n);
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::partial_sort_copy(ids.begin(), ids.end(), best.begin(), best.end(),
                         [&](int32_t a, int32_t b) {
                           const float x = logits[static_cast<size_t>(a)];
                           const float y = logits[static_cast<size_t>(b)];
                           return x != y ? x > y : a < b;
                         });
  for (int32_t t : best)
    out.top.emplace_back(t, static_cast<float>(logits[static_cast<size_t>(t)] - total));
  return out;
}

}  // namespace hob
