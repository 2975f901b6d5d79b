#include "engine/draft_governor.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace hob {
namespace {

constexpr double kNewest = 0.25;  // weight of a step against what was measured before
// A draft must promise so much more than none: estimates are noisy, and a wrong guess costs.
constexpr double kMargin = 1.03;
// The drafter's own word counts as so many outcomes; old outcomes fade beyond kMemory.
constexpr double kPriorWeight = 4, kMemory = 64;

}  // namespace

int DraftGovernor::bucket(float confidence) {
  return std::clamp(static_cast<int>(confidence * kBuckets), 0, kBuckets - 1);
}

bool DraftGovernor::known(int n_rows) const {
  const Cost& c = costs_[static_cast<size_t>(n_rows)];
  return c.step >= 0 && n_steps_ - c.step <= kStale;
}

void DraftGovernor::add_step(int n_rows, double seconds) {
  n_steps_++;
  if (n_rows < 1 || n_rows > kMaxRows || seconds <= 0) return;
  Cost& c = costs_[static_cast<size_t>(n_rows)];
  if (known(n_rows))
    c.seconds += kNewest * (std::min(seconds, 4 * c.seconds) - c.seconds);  // a hiccup is no cost
  else
    c.seconds = seconds;
  c.step = n_steps_;
  learn_row_share(n_rows);
}

// For sizes that have not been measured for a while: this size against the next smaller one that
// has been, else against the next larger one.
void DraftGovernor::learn_row_share(int n_rows) {
  constexpr double kMost = 4;
  int low = n_rows - 1, high = n_rows;
  while (low >= 1 && !known(low)) low--;
  if (low < 1) {
    low = n_rows;
    do high++;
    while (high <= kMaxRows && !known(high));
    if (high > kMaxRows) return;
  }
  const auto at = [&](int n) { return costs_[static_cast<size_t>(n)].seconds; };
  const double ratio = at(high) / at(low);  // = (1 + s (high - 1)) / (1 + s (low - 1))
  const double rows = (high - 1) - ratio * (low - 1);
  const double share = rows > 0 ? std::clamp((ratio - 1) / rows, 0.0, kMost) : kMost;
  row_share_ += (share_measured_ ? kNewest : 1) * (share - row_share_);
  share_measured_ = true;
}

// Between two measured sizes by interpolation, beyond them with row_share_ per row. Below them a
// row costs its share of the step: the least that is possible, so that plain steps are tried when
// they have not been for a while. Hopes are measured soon, fears never are.
double DraftGovernor::step_seconds(int n_rows) const {
  n_rows = std::clamp(n_rows, 1, kMaxRows);
  int below = n_rows, above = n_rows;
  while (below >= 1 && !known(below)) below--;
  while (above <= kMaxRows && !known(above)) above++;
  const auto at = [&](int n) { return costs_[static_cast<size_t>(n)].seconds; };
  const auto relative = [&](int n) { return 1 + row_share_ * (n - 1); };
  if (below < 1 && above > kMaxRows) return relative(n_rows);
  if (below < 1) return at(above) * n_rows / above;
  if (above > kMaxRows) return at(below) * relative(n_rows) / relative(below);
  if (below == above) return at(below);
  const double share = static_cast<double>(n_rows - below) / (above - below);
  return at(below) + share * (at(above) - at(below));
}

double DraftGovernor::probability(float confidence) const {
  const Rate& r = rates_[static_cast<size_t>(bucket(confidence))];
  return (r.n_true + kPriorWeight * static_cast<double>(confidence)) / (r.n + kPriorWeight);
}

void DraftGovernor::add_outcome(float confidence, bool came_true) {
  Rate& r = rates_[static_cast<size_t>(bucket(confidence))];
  const double fade = r.n >= kMemory ? (kMemory - 1) / kMemory : 1;
  r.n_true = r.n_true * fade + (came_true ? 1 : 0);
  r.n = r.n * fade + 1;
  if (!std::exchange(probing_, false)) return;
  patience_ = came_true && certain_ones_pay_ ? std::max(kLeastPatient, patience_ / 8)
                                             : std::min(kMostPatient, patience_ * 2);
}

void DraftGovernor::rank_nodes(std::span<const DraftJob> jobs) {
  nodes_.clear();
  for (size_t j = 0; j < jobs.size(); j++) {
    const DraftTree& tree = jobs[j].tree;
    values_.assign(tree.tokens.size(), 0);
    for (size_t i = 0; i < tree.tokens.size(); i++) {
      const int32_t parent = tree.parents[i];
      values_[i] = probability(tree.confidence[i]) *
                   (parent == DraftTree::kRoot ? 1 : values_[static_cast<size_t>(parent)]);
      nodes_.push_back({values_[i], static_cast<int32_t>(j), static_cast<int32_t>(i)});
    }
  }
  // No node is worth more than its parent, so whatever is taken from the front is a tree.
  std::sort(nodes_.begin(), nodes_.end(), [](const Node& a, const Node& b) {
    return std::tuple(-a.value, a.node, a.job) < std::tuple(-b.value, b.node, b.job);
  });
}

bool DraftGovernor::choose(std::span<DraftJob> jobs, int n_plain_rows, int max_nodes,
                           double draft_s) {
  rank_nodes(jobs);
  const int most = std::min({max_nodes, static_cast<int>(nodes_.size()), kMaxRows - n_plain_rows});
  double n_tok = n_plain_rows;
  const double plain = kMargin * n_tok / step_seconds(n_plain_rows);
  double best = plain;
  int n_best = 0;
  bool pays = false;
  for (int n = 1; n <= most; n++) {
    n_tok += nodes_[static_cast<size_t>(n - 1)].value;
    const double step_s = step_seconds(n_plain_rows + n);
    const double tok_s = n_tok / step_s;
    pays = pays || n_tok / (step_s + draft_s) > plain;
    if (tok_s <= best) continue;
    best = tok_s;
    n_best = n;
  }
  if (n_best > 0) {
    n_declined_ = 0;
  } else if (most > 0 && ++n_declined_ >= patience_) {
    n_declined_ = 0;
    n_best = 1;
    probing_ = true;
    certain_ones_pay_ = (n_plain_rows + 1) / step_seconds(n_plain_rows + 1) >
                        kMargin * n_plain_rows / step_seconds(n_plain_rows);
  }
  std::vector<std::vector<int32_t>> kept(jobs.size());
  for (int n = 0; n < n_best; n++) {
    const Node& node = nodes_[static_cast<size_t>(n)];
    kept[static_cast<size_t>(node.job)].push_back(node.node);
  }
  for (size_t j = 0; j < jobs.size(); j++) {
    std::sort(kept[j].begin(), kept[j].end());
    jobs[j].tree.keep(kept[j]);
  }
  return pays;
}

}  // namespace hob
