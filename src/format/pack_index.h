#pragma once
// What a pack file says about itself: whose experts it holds, where each slab lies, and named
// sections. Ref: docs/pack_format.md (byte by byte).
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/fingerprint.h"
#include "tensor/dtype.h"

namespace hob {

inline constexpr uint64_t kPackAlign = 4096;  // of slabs and of the index; what O_DIRECT wants

struct PackPart {
  DType dtype = DType::kF32;
  int rows = 0, cols = 0;
  bool operator==(const PackPart&) const = default;
};

struct PackSlab {
  uint64_t offset = 0, n_bytes = 0;  // multiples of kPackAlign
  uint64_t hash = 0;                 // hash64 of these bytes
};

// All experts of a layer in one precision. Gate, up, down.
struct PackCopy {
  std::array<PackPart, 3> parts;
  std::vector<PackSlab> slabs;  // [n_experts]; empty: the pack has no such copy
};

enum PackPrecision { kPackHigh = 0, kPackLow = 1 };
inline constexpr std::array<PackPrecision, 2> kPackPrecisions = {kPackHigh, kPackLow};

struct PackLayer {
  int n_experts = 0;               // 0: a layer without experts
  std::array<PackCopy, 2> copies;  // indexed by PackPrecision
};

// Anything else that belongs to the pack, under a name: readers skip those that they do not know.
struct PackSection {
  std::string name;
  std::string bytes;
};

struct PackIndex {
  ModelFingerprint model;
  std::vector<PackLayer> layers;
  std::vector<PackSection> sections;

  const PackSection* find_section(std::string_view name) const;
  // Replaces the section of that name.
  void set_section(std::string name, std::string bytes);
  bool has(PackPrecision precision) const;
  uint64_t slab_bytes(PackPrecision precision) const;
};

struct PackSlabId {
  int layer = 0;
  PackPrecision precision = kPackHigh;
  int expert = 0;
};
// All slabs in the order in which they lie in the file.
std::vector<PackSlabId> slab_order(const PackIndex& index);
inline const PackSlab& slab_of(const PackIndex& index, const PackSlabId& id) {
  return index.layers[static_cast<size_t>(id.layer)]
      .copies[id.precision]
      .slabs[static_cast<size_t>(id.expert)];
}
// "blk.3 expert 17 (high)", for messages.
std::string slab_name(const PackSlabId& id);

std::string serialise_pack_index(const PackIndex& index);
// Trusts nothing: every slab lies in [kPackAlign, slabs_end), aligned, and is large enough for its
// matrices. Throws Error(kDataLoss). `label` names the input in errors.
PackIndex parse_pack_index(std::span<const std::byte> bytes, uint64_t slabs_end,
                           std::string_view label);

}  // namespace hob
