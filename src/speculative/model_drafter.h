#pragma once
// A small model of the same vocabulary guesses for a large one. Grows trees best first (SpecExec)
// for all sequences together, one forward pass per level. Ref: research notes, specedge §1.4; its
// two lost-KV bugs (§0, finding 5) cannot happen here: a guess that came true keeps its KV row if
// it was computed, and is computed as a token if it was not.
#include "engine/drafter.h"
#include "engine/engine.h"

namespace hob {

struct ModelDrafterOptions {
  int beam = 4;    // nodes computed per level and sequence
  int branch = 4;  // children of a computed node, at most
  // No level whose best node is less likely than that: it would not be verified either.
  float least_value = 0.05f;
  double pass_floor_s = 0;  // of measurements: passes take as long as a larger model's would
};

// Borrows the draft model's engine; no sequences but the drafter's. Its step must hold `beam` rows
// with logits for each of the sequences that are drafted together; more sequences take turns.
std::unique_ptr<Drafter> make_model_drafter(Engine& engine, const ModelDrafterOptions& options);

}  // namespace hob
