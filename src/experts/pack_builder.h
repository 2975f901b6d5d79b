#pragma once
// Fills a pack: reads expert after expert, makes the slabs that are missing, hands them to the
// writer. While one expert is computed the next is read and the one before is written. Memory: two
// experts read, two written, whatever the model's size.
#include <cstdint>
#include <functional>

#include "experts/slab_maker.h"
#include "format/pack_file.h"
#include "format/pack_writer.h"

namespace hob {

// Bytes of slabs done, and in all. May throw to stop: what is written stays and can be continued.
using PackProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;
// Empty = without importance. Called on the building thread; valid until the next call.
using ImportanceSource = std::function<ExpertImportance(ExpertKey key)>;

struct PackBuild {
  const ExpertGeometry& high;
  const ExpertGeometry* low = nullptr;  // null: the plan has no low copies
  const Backend& backend;
  ThreadPool& pool;
  ImportanceSource importance;
};

// Does not commit.
void build_pack(PackWriter& writer, const PackBuild& build, const PackProgress& progress);

struct PackDamage {
  int n_slabs = 0, n_bad = 0;
  std::string first;  // what is wrong with the first one
};
// Re-hashes all slabs; makes the high ones anew from the model and compares every byte. The
// permutation is one to one, so equal images mean that unpacking gives the GGUF's bytes.
// `geometry`: the model's own, without the pack; it must be the pack's (apply_pack checks that).
PackDamage verify_pack(const PackFile& pack, const PackBuild& build, const PackProgress& progress);

}  // namespace hob
