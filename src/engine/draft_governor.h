#pragma once
// How much of a draft is worth verifying. A node costs a row of the step: little while a step is
// bound by reading the weights, much when it is bound by arithmetic or when the row's experts must
// first be read from disk. It brings a token if all guesses up to it come true. Both are measured
// while it happens: what steps of n rows take, and how often guesses of a given confidence come
// true. Ref: research notes, specedge §2.5 (Cascade's utility: tokens gained over cost, off below
// 1). Pure: the caller brings the clock.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/drafter.h"

namespace hob {

class DraftGovernor {
 public:
  static constexpr int kMaxRows = 256;  // of a step whose cost is remembered

  // row_share: what a row adds to a step, as a share of a step of one row, until that is measured.
  explicit DraftGovernor(double row_share = 0.08) : row_share_(row_share) {}

  // A step of decodes and drafts alone, without what drafting took.
  void add_step(int n_rows, double seconds);
  // A guess whose parent came true.
  void add_outcome(float confidence, bool came_true);

  // Cuts the jobs' trees to the nodes with which a step of n_plain_rows decodes brings the most
  // tokens per second; often none. Of at most max_nodes nodes together. True: that is more than
  // without drafts even when drafting takes draft_s more each time.
  bool choose(std::span<DraftJob> jobs, int n_plain_rows, int max_nodes, double draft_s = 0);

  double step_seconds(int n_rows) const;  // relative when nothing has been measured
  double probability(float confidence) const;
  bool has_measured() const { return n_steps_ > 0; }

 private:
  // Steps without use after which a measured cost is forgotten: the machine may have been busy.
  static constexpr int64_t kStale = 256;
  // Declined drafts after which one node is tried all the same: 1 % where a row doubles the step.
  // Twice as many after each in vain, an eighth after each that came true, unless even guesses that
  // always come true would not pay.
  static constexpr int kProbe = 100, kMostPatient = 1600, kLeastPatient = 4;
  static constexpr int kBuckets = 16;  // of confidence

  struct Cost {
    double seconds = 0;
    int64_t step = -1;  // when last measured; -1 = never
  };
  struct Rate {
    double n_true = 0, n = 0;
  };
  struct Node {
    double value;  // probability that it and its ancestors come true
    int32_t job, node;
  };
  static int bucket(float confidence);
  bool known(int n_rows) const;
  void learn_row_share(int n_rows);
  void rank_nodes(std::span<const DraftJob> jobs);

  std::array<Cost, kMaxRows + 1> costs_;
  std::array<Rate, kBuckets> rates_;
  int64_t n_steps_ = 0;
  double row_share_;
  bool share_measured_ = false;
  int patience_ = kProbe, n_declined_ = 0;
  bool probing_ = false, certain_ones_pay_ = false;
  std::vector<Node> nodes_;
  std::vector<double> values_;
};

}  // namespace hob
