#pragma once
// What a distribution says about one token.
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace hob {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
  int rank = 0;                                // 1 = the most likely one
  std::vector<std::pair<int32_t, float>> top;  // descending
};

// log of the sum of exp(logits), stable, summed in f64.
double log_sum_exp(std::span<const float> logits);

// Of softmax(logits), with the n_top most likely tokens (ties to the lower id, as when sampling).
// Equal logits share the better rank. Throws Error(kInternal) on a NaN or +inf logit, or when all
// are -inf.
TokenLogprob token_logprob(std::span<const float> logits, int32_t token, int n_top);

}  // namespace hob
