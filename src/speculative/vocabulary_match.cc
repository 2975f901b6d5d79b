#include "speculative/vocabulary_match.h"

#include "base/error.h"

namespace hob {

void check_same_vocabulary(const Tokenizer& target, const Tokenizer& draft) {
  const int n = std::min(target.n_vocab(), draft.n_vocab());
  for (TokenId id = 0; id < n; id++) {
    const std::string a = target.piece(id, true), b = draft.piece(id, true);
    if (a != b)
      fail(Code::kInvalidArgument,
           "[draft] expected the target's vocabulary, token {} is '{}' there and '{}' in the draft",
           id, a, b);
    if (target.is_control(id) != draft.is_control(id))
      fail(Code::kInvalidArgument,
           "[draft] expected the target's vocabulary, token {} ('{}') is a control token in one of "
           "them only",
           id, a);
  }
  if (target.n_vocab() != draft.n_vocab())
    fail(Code::kInvalidArgument,
         "[draft] expected the target's vocabulary of {} tokens, the draft has {}",
         target.n_vocab(), draft.n_vocab());
}

}  // namespace hob
