#pragma once
// What a draft model proposes for one position. Ref: research notes, specedge §2.1 (coupled
// drafting: candidates in the order of log q + G, G the noise that the target will add).
#include <cstdint>
#include <span>
#include <vector>

#include "sampling/sampler.h"

namespace hob {

struct DraftCandidate {
  int32_t token = 0;
  float probability = 0;  // the drafter's estimate that the target will choose it
};

// The n likeliest choices of a target that samples with `params` at `position`, best first; fewer
// where the model excludes tokens. Penalties and filters are the target's business: they cost
// guesses here, never answers. NaN logits give none.
void draft_candidates(std::span<const float> logits, const SamplingParams& params,
                      uint32_t position, uint32_t choice, int n, std::vector<DraftCandidate>& out);

}  // namespace hob
