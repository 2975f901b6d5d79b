#pragma once
// The pre-tokenizers of tokenizer.json: cut a text into the words that the model sees one by one,
// and sometimes change them.
#include <memory>
#include <vector>

#include "text/hf/normalizer.h"

namespace hob::hf {

// Immutable after construction: any thread.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Appends the words of `stretch`, none of them empty.
  virtual void split(const Stretch& stretch, const WorkBudget& budget,
                     std::vector<Stretch>& words) const = 0;
};

// nullptr for null. Throws Error(kUnimplemented) naming an unknown kind.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Node& node);

// What happens to the matches that a text is cut at.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// The pieces, in order; some may be empty. With `invert`, what lies between the matches counts as
// matched.
std::vector<Match> pieces_of(std::string_view text, const std::vector<Match>& matches,
                             Behavior behavior, bool invert);

}  // namespace hob::hf
