#pragma once
// Which rows go into the next step. Pure: the engine applies the plan, tests and simulators ask for
// it directly. Ref: DESIGN decisions 5 and 8; research notes, serving §1.2 (decodes first, then
// prefill chunks).
#include <span>
#include <vector>

namespace hob {

struct SeqView {
  int n_pending_tok = 0;  // tokens fed but not yet in the KV cache
  int n_logits_from = 0;  // of the pending tokens, those from this index on want a row of logits
  bool active = true;
};

struct StepLimits {
  int max_rows = 1;        // token budget of a step
  int max_logit_rows = 1;  // rows of the logits buffer
};

struct RowPlan {
  int seq = 0;    // index into the views
  int n_tok = 0;  // the next n pending tokens of that sequence
};

// Decoding sequences (one pending token) first, then chunks of the others, each in order from
// `first` on, round robin. Never exceeds a limit; empty only when nothing is pending. With `first`
// advancing every step nobody starves. `storage`: a vector to reuse for the result; what it held is
// dropped.
std::vector<RowPlan> schedule(std::span<const SeqView> seqs, const StepLimits& limits, int first,
                              std::vector<RowPlan> storage = {});

}  // namespace hob
