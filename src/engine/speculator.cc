#include "engine/speculator.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace hob {

Speculator::Speculator(std::unique_ptr<Drafter> drafter, const SpeculationOptions& options)
    : drafter_(std::move(drafter)), options_(options), governor_(options.row_share) {}

void Speculator::draft(std::span<DraftJob> jobs, int n_plain_rows, int max_nodes) {
  last_draft_s_ = 0;
  if (rest_ > 0) {
    rest_--;
    caught_up_ = false;
    for (DraftJob& job : jobs) job.tree.clear();
    return;
  }
  for (DraftJob& job : jobs) job.max_nodes = std::min(job.max_nodes, options_.max_nodes);
  const auto start = std::chrono::steady_clock::now();
  drafter_->draft(jobs);
  last_draft_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!options_.adaptive) {
    for (DraftJob& job : jobs) {
      job.tree.resize(std::min(job.tree.size(), std::max(0, max_nodes)));
      max_nodes -= job.tree.size();
    }
    return;
  }
  const bool had_guesses =
      std::any_of(jobs.begin(), jobs.end(), [](const DraftJob& j) { return !j.tree.empty(); });
  const bool pays =
      governor_.choose(jobs, n_plain_rows, max_nodes, governor_.has_measured() ? last_draft_s_ : 0);
  judge(pays, n_plain_rows, had_guesses);
}

void Speculator::judge(bool pays, int n_plain_rows, bool had_guesses) {
  const bool noticed =
      governor_.has_measured() && last_draft_s_ > kNoticed * governor_.step_seconds(n_plain_rows);
  if (!std::exchange(caught_up_, true) || !noticed) return;
  if (pays && had_guesses) {
    next_rest_ = kFirstRest;
    return;
  }
  rest_ = next_rest_;
  next_rest_ = std::min(kLongestRest, next_rest_ * 2);
}

void Speculator::draft_apart(std::span<DraftJob> jobs) {
  for (DraftJob& job : jobs) job.max_nodes = std::min(job.max_nodes, options_.max_nodes);
  drafter_->draft(jobs);
  if (!options_.adaptive) return;
  for (DraftJob& job : jobs) governor_.choose({&job, 1}, 1, job.max_nodes);
}

void Speculator::add_result(const DraftTree& tree, std::span<const int32_t> path) {
  if (tree.empty()) return;
  stats_.n_drafts++;
  stats_.n_draft_tok += tree.tokens.size();
  stats_.n_accepted_tok += path.size();
  const auto accepted = [&](int32_t node) {
    return std::find(path.begin(), path.end(), node) != path.end();
  };
  for (int32_t i = 0; i < tree.size(); i++) {
    const int32_t parent = tree.parents[static_cast<size_t>(i)];
    if (parent == DraftTree::kRoot || accepted(parent))
      governor_.add_outcome(tree.confidence[static_cast<size_t>(i)], accepted(i));
  }
}

}  // namespace hob
