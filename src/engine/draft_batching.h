#pragma once
// When to begin a step of drafts that come from outside: at once with those that are there, or a
// little later with more of them. A step costs something whoever is in it (reading the weights) and
// something per row; who comes while it runs waits for its end. Pure; the serving loop and the
// simulator ask. Ref: research notes, specedge §3.1 (two alternating halves lose while a step's
// cost is flat), §4.4 "coalesce-or-go".
#include <cstdint>
#include <optional>
#include <span>

namespace hob {

enum class DraftBatching : uint8_t {
  kGo,        // with whoever is there
  kCoalesce,  // wait while that saves more of everybody's time than it costs
  kHalves,    // the published policy: half of all answers in each step, the other half drafts
};

// What steps cost, learnt from those that ran: seconds = fixed + per_row * rows.
class StepCost {
 public:
  void add(int n_rows, double seconds);
  double fixed_s() const;
  double row_s() const;

 private:
  // The weight of the newest step: about the last fifty count.
  static constexpr double kWeight = 0.02;
  double n_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;  // decayed sums
};

// How long a drafter takes, from what became of one draft to the next one. Times in seconds of any
// one clock.
class ThinkTime {
 public:
  void decided(double now_s) { decided_s_ = now_s; }
  void offered(double now_s);
  void forget_decision() { decided_s_.reset(); }
  // Until the next draft is due; when that has passed, until it is late by more than drafts of this
  // drafter usually are. None = nobody knows, or it is later than that.
  std::optional<double> expected_in_s(double now_s) const;

 private:
  static constexpr double kWeight = 0.25;  // of the newest
  // Waiting until the very moment and no longer would be all in vain half of the time.
  static constexpr double kGrace = 2, kLeastGrace_s = 0.001;
  std::optional<double> decided_s_, usual_s_;
  double deviation_s_ = 0;  // mean
};

struct DraftBatchingInput {
  DraftBatching policy = DraftBatching::kCoalesce;
  int n_ready = 0;      // drafts that are there
  int n_answers = 0;    // that draft, these included
  double waited_s = 0;  // the longest of those, since a step could have begun
  double fixed_s = 0;   // of a step
  double draft_s = 0;   // that one more draft adds to it
  // Seconds until each further draft is expected, ascending; what is later than usual is not in
  // it (ThinkTime).
  std::span<const double> expected_in_s;
};

// Seconds to wait before asking again; 0 = begin the step.
double draft_wait_s(const DraftBatchingInput& input);

}  // namespace hob
