#pragma once
// Who guesses the next tokens of a sequence. A guess costs time when it is wrong, never the answer:
// the target model decides (draft_tree.h).
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

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

// Told, while a drafter still works, of tokens that the target's next step will probably compute:
// it can fetch what it needs for them.
using DraftHint = std::function<void(std::span<const int32_t> tokens)>;

// Engine thread only.
class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual std::string_view name() const = 0;
  // `choice` and sampling: of the answer, so that a drafter that draws uses the target's noise.
  virtual std::unique_ptr<DraftState> open(const SamplingParams& sampling, uint32_t choice) = 0;
  // Fills every job's tree. Throws nothing: a drafter in trouble guesses nothing.
  virtual void draft(std::span<DraftJob> jobs) = 0;

  // For draft(). Drafters that take no time to speak of have nothing to say ahead.
  virtual void set_hint(DraftHint) {}

  // What the drafter itself says next, one node per job; empty = it says nothing by itself
  // (n-grams) or is in trouble.
  virtual void write(std::span<DraftJob> jobs) {
    for (DraftJob& job : jobs) job.tree.clear();
  }

  // While somebody else verifies what draft() gave, for as long as that takes. look_ahead(): one
  // forward pass further behind these texts (only state and tokens of the jobs matter); false =
  // none would help. What it finds also serves the next draft().
  virtual bool look_ahead(std::span<DraftJob>) { return false; }
  // The likeliest ends of `sent`'s verification behind `tokens`, with a tree behind each.
  virtual std::vector<OutcomeGuess> guess_outcomes(DraftState&, std::span<const int32_t> tokens,
                                                   const DraftTree& sent, int max_guesses,
                                                   int max_nodes) {
    static_cast<void>(tokens), static_cast<void>(sent);
    static_cast<void>(max_guesses), static_cast<void>(max_nodes);
    return {};
  }
};

}  // namespace hob
