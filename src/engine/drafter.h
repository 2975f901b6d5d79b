#pragma once
// Who guesses the next tokens of a sequence. A guess costs time when it is wrong, never the answer:
// the target model decides (draft_tree.h).
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "engine/draft_tree.h"
#include "sampling/sampler.h"

namespace hob {

// What a drafter knows of one sequence.
class DraftState {
 public:
  virtual ~DraftState() = default;
};

struct DraftJob {
  DraftState* state = nullptr;
  std::span<const int32_t>
      tokens;  // prompt and answer so far; those of earlier jobs may have changed
  int max_nodes = 0, max_depth = 0;
  DraftTree tree;  // the result, with confidence; empty = no guess
};

// Engine thread only.
class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual std::string_view name() const = 0;
  // `choice` and sampling: of the answer, so that a drafter that draws uses the target's noise.
  virtual std::unique_ptr<DraftState> open(const SamplingParams& sampling, uint32_t choice) = 0;
  // Fills every job's tree. Throws nothing: a drafter in trouble guesses nothing.
  virtual void draft(std::span<DraftJob> jobs) = 0;
};

}  // namespace hob
