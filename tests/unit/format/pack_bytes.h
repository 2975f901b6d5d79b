#pragma once
// Small packs, right and wrong.
#include <cstring>
#include <string>

#include "format/pack_file.h"
#include "format/pack_writer.h"

namespace hob {

// Three layers: one without experts, one with both copies, one with a high copy only.
inline PackIndex small_index() {
  PackIndex index;
  index.model = {.name = "a model", .files = {{1000, 11, 12}, {2000, 21, 22}}};
  index.layers.resize(3);
  const auto copy = [](DType dtype, int d_ff, uint64_t slab_bytes) {
    PackCopy c;
    c.parts = {{{dtype, d_ff, 64}, {dtype, d_ff, 64}, {dtype, 64, d_ff}}};
    c.slabs.assign(2, {.n_bytes = slab_bytes});
    return c;
  };
  index.layers[1].n_experts = index.layers[2].n_experts = 2;
  index.layers[1].copies[kPackHigh] = copy(DType::kQ8_0, 32, 8192);
  index.layers[1].copies[kPackLow] = copy(DType::kQ4_0, 32, 4096);
  index.layers[2].copies[kPackHigh] = copy(DType::kF16, 32, 12288);
  index.set_section("options", "x=1");
  place_slabs(index);
  return index;
}

// The file of an index, its slabs filled with a pattern; the hashes are whatever the index says.
inline std::string pack_bytes(const PackIndex& index) {
  const std::string body = serialise_pack_index(index);
  uint64_t end = kPackAlign;
  for (const PackSlabId& id : slab_order(index))
    end = slab_of(index, id).offset + slab_of(index, id).n_bytes;
  std::string bytes(end, '\x5a');
  const PackPrologue prologue = make_pack_prologue(body, end);
  bytes.replace(0, kPackAlign, std::string(kPackAlign, '\0'));
  std::memcpy(bytes.data(), &prologue, sizeof prologue);
  return bytes + body;
}

}  // namespace hob
