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
      job.tree.clear();
      const SuffixIndex::Match match = index.longest_match();
      if (match.length == 0) continue;
      // Where the text ends, it goes on with what has been guessed: a short period goes round.
      const std::span<const int32_t> next = job.tokens.subspan(static_cast<size_t>(match.next));
      for (int i = 0; i < std::min(job.max_nodes, job.max_depth); i++) {
        const auto at = static_cast<size_t>(i);
        job.tree.add(at < next.size() ? next[at] : job.tree.tokens[at - next.size()], i - 1,
                     confidence_of(match.length + i));
      }
    }
  }
};

}  // namespace

std::unique_ptr<Drafter> make_ngram_drafter() { return std::make_unique<NgramDrafter>(); }

}  // namespace hob
