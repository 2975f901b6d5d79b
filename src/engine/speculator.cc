#include "engine/speculator.h"

#include <algorithm>

namespace hob {

Speculator::Speculator(std::unique_ptr<Drafter> drafter, const SpeculationOptions& options)
    : drafter_(std::move(drafter)), options_(options), governor_(options.row_share) {}

void Speculator::draft(std::span<DraftJob> jobs, int n_plain_rows, int max_nodes) {
  for (DraftJob& job : jobs) job.max_nodes = std::min(job.max_nodes, options_.max_nodes);
  drafter_->draft(jobs);
  if (options_.adaptive) return governor_.choose(jobs, n_plain_rows, max_nodes);
  for (DraftJob& job : jobs) {
    job.tree.resize(std::min(job.tree.size(), std::max(0, max_nodes)));
    max_nodes -= job.tree.size();
  }
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
