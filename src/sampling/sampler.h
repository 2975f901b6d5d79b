#pragma once
// Counter-based sampling. Ref: DESIGN decision 11: token = argmax(log p + G(seed, choice, position,
// token)) over the filtered distribution, G Gumbel noise from a counter-based generator. No state:
// the same arguments give the same token under any batch, preemption or speculation.
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace hob {

struct SamplingParams {
  float temperature = 0.8f;  // 0 = greedy
  int top_k = 40;            // 0 = off
  float top_p = 0.95f;       // 1 = off
  float min_p = 0.05f;       // 0 = off
  float repetition_penalty = 1.f;
  float presence_penalty = 0.f;
  float frequency_penalty = 0.f;
  int penalty_window = 64;  // last tokens that penalties look at; 0 = all
  uint64_t seed = 0;
  void check() const;  // throws Error(kInvalidArgument) naming the parameter
};

// What a request changes about the logits of one token, before penalties and filters.
struct LogitEdits {
  std::span<const std::pair<int32_t, float>> bias;  // added; entries of one token add up
  std::span<const int32_t> banned;                  // never chosen, whatever the bias
};

// Uniform in (0,1) from Philox4x32-10 at counter (choice, position, token), key = seed.
double philox_uniform(uint64_t seed, uint32_t choice, uint32_t position, uint32_t token);

// Order: edits, penalties, top-k, top-p, min-p, temperature. `history`: prompt and generated tokens
// so far (penalties). `position`: index of the token being chosen. Throws Error(kInternal) on a NaN
// or +inf logit, or when all are -inf (-inf alone means: never this token).
int32_t sample(std::span<const float> logits, const SamplingParams& params,
               std::span<const int32_t> history, uint32_t position, uint32_t choice = 0,
               const LogitEdits& edits = {});

}  // namespace hob
