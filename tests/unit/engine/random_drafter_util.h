#pragma once
// A drafter that guesses trees of any shape, some of them right.
#include <algorithm>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "engine/drafter.h"

namespace hob {

struct NoState : DraftState {};

// Random trees; the nodes of one branch are what the answer really says, if it is known.
class RandomDrafter : public Drafter {
 public:
  explicit RandomDrafter(std::vector<std::vector<int32_t>> texts) : texts_(std::move(texts)) {}
  std::string_view name() const override { return "random"; }
  std::unique_ptr<DraftState> open(const SamplingParams&, uint32_t) override {
    return std::make_unique<NoState>();
  }
  void set_hint(DraftHint hint) override { hint_ = std::move(hint); }
  void draft(std::span<DraftJob> jobs) override {
    for (DraftJob& job : jobs) {
      job.tree.clear();
      const int n = pick(job.max_nodes + 1);
      std::vector<int> depth;
      int32_t truth_at = DraftTree::kRoot;
      const std::span<const int32_t> truth = rest_of(job.tokens);
      for (int i = 0; i < n; i++) {
        const bool right = pick(3) > 0 && (i == 0 || truth_at != DraftTree::kRoot);
        const int32_t parent = right ? truth_at : pick(i + 1) - 1;
        const int d = parent == DraftTree::kRoot ? 0 : depth[static_cast<size_t>(parent)] + 1;
        if (d >= job.max_depth) break;
        const bool known = right && static_cast<size_t>(d) < truth.size();
        job.tree.add(known ? truth[static_cast<size_t>(d)] : pick(320), parent, 0.5f);
        depth.push_back(d);
        if (known) truth_at = i;
      }
      if (hint_ && pick(3) > 0) hint_(job.tree.tokens);
    }
  }

  // Mostly what the answer says.
  void write(std::span<DraftJob> jobs) override {
    for (DraftJob& job : jobs) {
      job.tree.clear();
      const std::span<const int32_t> truth = rest_of(job.tokens);
      job.tree.add(truth.empty() || pick(12) == 0 ? pick(320) : truth[0], DraftTree::kRoot, 0.5f);
    }
  }

 private:
  int pick(int n) { return n > 0 ? static_cast<int>(rng_() % static_cast<unsigned>(n)) : 0; }
  std::span<const int32_t> rest_of(std::span<const int32_t> tokens) const {
    for (const std::vector<int32_t>& text : texts_)
      if (text.size() > tokens.size() && std::equal(tokens.begin(), tokens.end(), text.begin()))
        return std::span(text).subspan(tokens.size());
    return {};
  }
  std::mt19937 rng_{11};
  std::vector<std::vector<int32_t>> texts_;
  DraftHint hint_;
};

}  // namespace hob
