#pragma once
// Between a model's geometry and a pack's index: what a pack of this model would hold, and where a
// pack's slabs are, for the cache.
#include <string>

#include "backend/backend.h"
#include "experts/expert_layout.h"
#include "experts/expert_store.h"
#include "format/model_file.h"
#include "format/pack_file.h"

namespace hob {

struct PackChoice {
  bool high = true;
  int low_bits = 0;  // 0 = no low copy; 2, 3 or 4
};

// Bits per weight of the model's experts, over all of them.
double expert_bits(const ExpertGeometry& geometry);
// Of the low copy when nobody says: 4 below 16-bit weights, 2 below 8 to 3.5, none below that,
// where a second copy would save next to nothing.
int default_low_bits(double expert_bits);

// The geometry of the low copy: the same shapes, types of about `bits` bits. Offsets mean nothing.
ExpertGeometry low_geometry(const ExpertGeometry& geometry, int bits);

// The index of a pack of this model, every slab in its place, without hashes. Throws
// Error(kInvalidArgument) when the model has no experts, when the choice is empty, and when the low
// copy would not be smaller than the high one.
PackIndex plan_pack(const ExpertGeometry& geometry, const Backend& backend,
                    const PackChoice& choice, ModelFingerprint model);

// Lets `geometry` read from the pack: its high slabs where it has them, its low copies. Everything
// that the loader will rely on is checked: model, shapes, sizes of slots. Throws Error(kDataLoss |
// kInvalidArgument).
void apply_pack(const PackFile& pack, const ModelFile& model, const Backend& backend,
                ExpertGeometry& geometry);

}  // namespace hob
