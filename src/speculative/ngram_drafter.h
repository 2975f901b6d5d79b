#pragma once
// Drafts without weights: what followed the last time. Costs microseconds; good where an answer
// repeats its prompt or itself (code edits, extraction, agents), silent elsewhere.
#include "engine/drafter.h"

namespace hob {

std::unique_ptr<Drafter> make_ngram_drafter();

}  // namespace hob
