#pragma once
// Drafting for the sequences of one step loop: asks the drafter, lets the governor cut, learns from
// what came true. `run` and the serving loop use it alike.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "engine/draft_governor.h"
#include "engine/drafter.h"

namespace hob {

struct SpeculationOptions {
  int max_nodes = 16;       // of a sequence's draft
  double row_share = 0.08;  // DraftGovernor's
  bool adaptive = true;     // false: all that the drafter says, for tests and measurements
};

struct SpeculationStats {
  uint64_t n_drafts = 0;        // verified, with one node at least
  uint64_t n_draft_tok = 0;     // nodes of these
  uint64_t n_accepted_tok = 0;  // of these, accepted
  friend SpeculationStats operator-(const SpeculationStats& a, const SpeculationStats& b) {
    return {a.n_drafts - b.n_drafts, a.n_draft_tok - b.n_draft_tok,
            a.n_accepted_tok - b.n_accepted_tok};
  }
};

// Engine thread only.
class Speculator {
 public:
  Speculator(std::unique_ptr<Drafter> drafter, const SpeculationOptions& options);

  std::unique_ptr<DraftState> open(const SamplingParams& sampling, uint32_t choice) {
    return drafter_->open(sampling, choice);
  }
  // Fills the jobs' trees for a step with `n_plain_rows` decodes; max_nodes: of all together. Each
  // job's own limits are the caller's; options().max_nodes applies too. A drafter that costs more
  // than its guesses save rests, for longer each time that a trial confirms it.
  void draft(std::span<DraftJob> jobs, int n_plain_rows, int max_nodes);
  // The same where each job is verified in a step of its own.
  void draft_apart(std::span<DraftJob> jobs);
  // path: the accepted nodes.
  void add_result(const DraftTree& tree, std::span<const int32_t> path);
  // A step of decodes and drafts alone; the time since draft() was called for it included.
  void add_step(int n_rows, double seconds) {
    governor_.add_step(n_rows, std::max(0.0, seconds - last_draft_s_));
  }
  // After draft_apart(): a round, all that it took.
  void add_round(int n_rows, double seconds) { governor_.add_step(n_rows, seconds); }

  void set_hint(DraftHint hint) { drafter_->set_hint(std::move(hint)); }
  Drafter& drafter() { return *drafter_; }
  const SpeculationOptions& options() const { return options_; }
  const SpeculationStats& stats() const { return stats_; }

 private:
  // Steps of rest after a trial in vain: from 1 in 8 steps down to 2 in 256 with trials (the first
  // of two catches up with the text and says nothing of what drafting costs).
  static constexpr int kFirstRest = 8, kLongestRest = 256;
  // Of a plain step: a drafter that takes less never rests (n-grams take microseconds).
  static constexpr double kNoticed = 0.01;

  void judge(bool pays, int n_plain_rows, bool had_guesses);

  std::unique_ptr<Drafter> drafter_;
  SpeculationOptions options_;
  DraftGovernor governor_;
  SpeculationStats stats_;
  double last_draft_s_ = 0;
  int rest_ = 0, next_rest_ = kFirstRest;
  bool caught_up_ = false;
};

}  // namespace hob
