// Feeds arbitrary bytes to the GGUF parser. Whatever they say, it must return tensors that lie
// inside the input or throw hob::Error; run with ASan, UBSan and -malloc_limit_mb. Nothing is
// written to disk.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "base/error.h"
#include "format/byte_source.h"
#include "format/gguf_parse.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const hob::GgufShard& shard, size_t size) {
  for (const hob::RawTensor& tensor : shard.tensors) {
    require(tensor.offset <= size && tensor.n_bytes <= size - tensor.offset);
    require(tensor.n_bytes == hob::row_bytes(tensor.dtype, tensor.shape.n_elements()));
    require(!tensor.name.empty());
  }
  for (const auto& [key, value] : shard.metadata.entries()) {
    require(shard.metadata.find(key) == &value);
    try {
      static_cast<void>(shard.metadata.get_uint(key));
    } catch (const hob::Error&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const hob::MemorySource source(std::as_bytes(std::span(data, size)));
  try {
    check(hob::parse_gguf(source, "fuzz"), size);
  } catch (const hob::Error&) {
  }
  return 0;
}
