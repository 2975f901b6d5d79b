#pragma once
// Ids are all that a drafter and its target exchange: they must mean the same.
#include "text/tokenizer.h"

namespace hob {

// Throws Error(kInvalidArgument) naming the first id whose bytes or kind differ, or the sizes.
void check_same_vocabulary(const Tokenizer& target, const Tokenizer& draft);

}  // namespace hob
