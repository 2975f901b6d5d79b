#include "speculative/ngram_drafter.h"

#include <algorithm>

#include "speculative/suffix_index.h"

namespace hob {
namespace {

struct NgramState : DraftState {
  SuffixIndex index;
};

// The longer the match, the likelier that it goes on. A start only: the governor learns what each
// value is worth. (One third for 2 tokens, nine tenths for 32; each has a bucket of its own there.)
float confidence_of(int length) {
  return static_cast<float>(length) / static_cast<float>(length + 4);
}

class NgramDrafter : public Drafter {
 public:
  std::string_view name() const override { return "ngram"; }

  std::unique_ptr<DraftState> open(const SamplingParams&, uint32_t) override {
    return std::make_unique<NgramState>();
  }

  void draft(std::span<DraftJob> jobs) override {
    for (DraftJob& job : jobs) {
      SuffixIndex& index = static_cast<NgramState*>(job.state)->index;
      index.update(job.tokens);
      job.tree = chain(index, job.tokens, std::min(job.max_nodes, job.max_depth));
    }
  }

  // One guess: all of it comes true, and the text goes on as it did the last time.
  std::vector<OutcomeGuess> guess_outcomes(DraftState& state, std::span<const int32_t> tokens,
                                           const DraftTree& sent, int max_guesses,
                                           int max_nodes) override {
    SuffixIndex& index = static_cast<NgramState&>(state).index;
    index.update(tokens);
    const DraftTree all = chain(index, tokens, sent.size() + 1 + max_nodes);
    const auto n = static_cast<size_t>(sent.size());
    if (max_guesses < 1 || max_nodes < 1 || all.tokens.size() <= n + 1 ||
        !std::equal(sent.tokens.begin(), sent.tokens.end(), all.tokens.begin()) ||
        tree_depth(sent) != sent.size())
      return {};
    OutcomeGuess guess{.node = sent.size() - 1, .bonus = all.tokens[n], .tree = {}};
    for (size_t i = n + 1; i < all.tokens.size(); i++)
      guess.tree.add(all.tokens[i], guess.tree.size() - 1, all.confidence[i]);
    return {std::move(guess)};
  }

 private:
  static DraftTree chain(const SuffixIndex& index, std::span<const int32_t> tokens, int n) {
    DraftTree tree;
    const SuffixIndex::Match match = index.longest_match();
    if (match.length == 0) return tree;
    // Where the text ends, it goes on with what has been guessed: a short period goes round.
    const std::span<const int32_t> next = tokens.subspan(static_cast<size_t>(match.next));
    for (int i = 0; i < n; i++) {
      const auto at = static_cast<size_t>(i);
      tree.add(at < next.size() ? next[at] : tree.tokens[at - next.size()], i - 1,
               confidence_of(match.length + i));
    }
    return tree;
  }
};

}  // namespace

std::unique_ptr<Drafter> make_ngram_drafter() { return std::make_unique<NgramDrafter>(); }

}  // namespace hob
