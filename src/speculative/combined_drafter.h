#pragma once
// Two drafters whose guesses become one tree: what stood in the text before, and what a small model
// thinks. Ref: research notes, specedge §2.1 (suffix and model drafts together).
#include <memory>

#include "engine/drafter.h"

namespace hob {

// `first` is asked first; where it is nearly certain, `second`, which costs more, is not asked.
std::unique_ptr<Drafter> make_combined_drafter(std::unique_ptr<Drafter> first,
                                               std::unique_ptr<Drafter> second);

// Both trees as one: a guess that both have is one node, as likely as the more certain of them
// says. The likeliest max_nodes of it. Both have confidence.
DraftTree merge_trees(const DraftTree& a, const DraftTree& b, int max_nodes);

}  // namespace hob
