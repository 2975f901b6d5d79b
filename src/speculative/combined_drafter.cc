#include "speculative/combined_drafter.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace hob {
namespace {

// A first guess that is as certain as this leaves little for anybody else to add: for n-grams, a
// repetition of sixteen tokens.
constexpr float kCertain = 0.8f;

struct CombinedState : DraftState {
  CombinedState(std::unique_ptr<DraftState> a, std::unique_ptr<DraftState> b)
      : first(std::move(a)), second(std::move(b)) {}
  std::unique_ptr<DraftState> first, second;
};

class CombinedDrafter : public Drafter {
 public:
  CombinedDrafter(std::unique_ptr<Drafter> first, std::unique_ptr<Drafter> second)
      : first_(std::move(first)), second_(std::move(second)) {}

  std::string_view name() const override { return second_->name(); }

  std::unique_ptr<DraftState> open(const SamplingParams& sampling, uint32_t choice) override {
    return std::make_unique<CombinedState>(first_->open(sampling, choice),
                                           second_->open(sampling, choice));
  }

  void draft(std::span<DraftJob> jobs) override {
    set_jobs(jobs, &CombinedState::first);
    first_->draft(jobs_);
    for (size_t i = 0; i < jobs.size(); i++) jobs[i].tree = std::move(jobs_[i].tree);
    asked_.clear();
    jobs_.clear();
    for (DraftJob& job : jobs) {
      if (!job.tree.empty() && job.tree.confidence[0] >= kCertain) continue;
      asked_.push_back(&job);
      jobs_.push_back(job_of(job, &CombinedState::second));
    }
    if (jobs_.empty()) return;
    second_->draft(jobs_);
    for (size_t i = 0; i < jobs_.size(); i++)
      asked_[i]->tree = merge_trees(asked_[i]->tree, jobs_[i].tree, asked_[i]->max_nodes);
  }

  void write(std::span<DraftJob> jobs) override {
    set_jobs(jobs, &CombinedState::second);
    second_->write(jobs_);
    for (size_t i = 0; i < jobs.size(); i++) jobs[i].tree = std::move(jobs_[i].tree);
  }

  bool look_ahead(std::span<DraftJob> jobs) override {
    set_jobs(jobs, &CombinedState::second);
    return second_->look_ahead(jobs_);
  }

  std::vector<OutcomeGuess> guess_outcomes(DraftState& state, std::span<const int32_t> tokens,
                                           const DraftTree& sent, int max_guesses,
                                           int max_nodes) override {
    auto& s = static_cast<CombinedState&>(state);
    std::vector<OutcomeGuess> all =
        first_->guess_outcomes(*s.first, tokens, sent, max_guesses, max_nodes);
    const auto known = [&](const OutcomeGuess& g) {
      return std::any_of(all.begin(), all.end(), [&](const OutcomeGuess& other) {
        return other.node == g.node && other.bonus == g.bonus;
      });
    };
    for (OutcomeGuess& g : second_->guess_outcomes(*s.second, tokens, sent, max_guesses, max_nodes))
      if (all.size() < static_cast<size_t>(max_guesses) && !known(g)) all.push_back(std::move(g));
    return all;
  }

  void set_hint(DraftHint hint) override {
    first_->set_hint(hint);
    second_->set_hint(std::move(hint));
  }

 private:
  using Side = std::unique_ptr<DraftState> CombinedState::*;

  static DraftJob job_of(const DraftJob& job, Side side) {
    return {.state = (static_cast<CombinedState*>(job.state)->*side).get(),
            .tokens = job.tokens,
            .max_nodes = job.max_nodes,
            .max_depth = job.max_depth,
            .tree = {}};
  }
  void set_jobs(std::span<const DraftJob> jobs, Side side) {
    jobs_.clear();
    for (const DraftJob& job : jobs) jobs_.push_back(job_of(job, side));
  }

  const std::unique_ptr<Drafter> first_, second_;
  std::vector<DraftJob> jobs_;
  std::vector<DraftJob*> asked_;
};

}  // namespace

std::unique_ptr<Drafter> make_combined_drafter(std::unique_ptr<Drafter> first,
                                               std::unique_ptr<Drafter> second) {
  return std::make_unique<CombinedDrafter>(std::move(first), std::move(second));
}

DraftTree merge_trees(const DraftTree& a, const DraftTree& b, int max_nodes) {
  DraftTree all = a;
  std::vector<int32_t> node_of(b.tokens.size());
  for (size_t i = 0; i < node_of.size(); i++) {
    const int32_t parent = b.parents[i] == DraftTree::kRoot
                               ? DraftTree::kRoot
                               : node_of[static_cast<size_t>(b.parents[i])];
    int32_t node = all.child(parent, b.tokens[i]);
    if (node == DraftTree::kRoot) {
      node = all.size();
      all.add(b.tokens[i], parent, b.confidence[i]);
    } else {
      float& confidence = all.confidence[static_cast<size_t>(node)];
      confidence = std::max(confidence, b.confidence[i]);
    }
    node_of[i] = node;
  }
  if (all.size() <= max_nodes) return all;
  // A node is never likelier than its parent, and comes behind it: the best ones are a tree.
  std::vector<float> value(all.confidence);
  for (size_t i = 0; i < value.size(); i++)
    if (all.parents[i] != DraftTree::kRoot) value[i] *= value[static_cast<size_t>(all.parents[i])];
  std::vector<int32_t> best(all.tokens.size());
  std::iota(best.begin(), best.end(), 0);
  std::sort(best.begin(), best.end(), [&](int32_t x, int32_t y) {
    const float vx = value[static_cast<size_t>(x)], vy = value[static_cast<size_t>(y)];
    return vx != vy ? vx > vy : x < y;
  });
  best.resize(static_cast<size_t>(std::max(0, max_nodes)));
  std::sort(best.begin(), best.end());
  all.keep(best);
  return all;
}

}  // namespace hob
