// Arbitrary bytes as a pack (first byte even) or as the index of one (odd), which its hash would
// otherwise keep out of the fuzzer's reach. They must give slabs inside the file or hob::Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/error.h"
#include "format/byte_source.h"
#include "format/pack_file.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const hob::PackIndex& index, uint64_t slabs_end) {
  for (const hob::PackSlabId& id : slab_order(index)) {
    const hob::PackSlab& slab = slab_of(index, id);
    require(slab.offset >= hob::kPackAlign && slab.offset <= slabs_end);
    require(slab.n_bytes > 0 && slab.n_bytes <= slabs_end - slab.offset);
    require(slab.offset % hob::kPackAlign == 0 && slab.n_bytes % hob::kPackAlign == 0);
    uint64_t stock = 0;
    for (const hob::PackPart& p :
         index.layers[static_cast<size_t>(id.layer)].copies[id.precision].parts)
      stock += hob::row_bytes(p.dtype, p.cols) * static_cast<uint64_t>(p.rows);
    require(stock <= slab.n_bytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  constexpr uint64_t kSlabsEnd = 1 << 20;
  try {
    if (data[0] & 1) {
      const hob::PackIndex index = hob::parse_pack_index(bytes, kSlabsEnd, "fuzz");
      check(index, kSlabsEnd);
      // What was accepted is written the same way.
      const std::string back = serialise_pack_index(index);
      require(back.size() == bytes.size() &&
              std::memcmp(back.data(), bytes.data(), back.size()) == 0);
    } else {
      check(hob::parse_pack(hob::MemorySource(bytes), "fuzz"), bytes.size());
    }
  } catch (const hob::Error&) {
  }
  return 0;
}
