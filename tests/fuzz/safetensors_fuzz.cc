// Arbitrary bytes as a safetensors file (first byte even) or as an index of shards (odd). They must
// give tensors that lie inside the input without overlaps, names of files in the same folder, or
// hob::Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "base/error.h"
#include "hf/safetensors.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check_file(std::span<const std::byte> bytes) {
  uint64_t end = 0;
  for (const hob::SafeTensor& t : hob::parse_safetensors(hob::MemorySource(bytes), "fuzz")) {
    require(!t.name.empty() && t.offset >= end);
    require(t.offset <= bytes.size() && t.n_bytes <= bytes.size() - t.offset);
    uint64_t n = bytes_of(t.dtype);
    for (const int64_t d : t.shape)
      require(!__builtin_mul_overflow(n, static_cast<uint64_t>(d), &n));
    require(n == t.n_bytes);
    end = t.offset + t.n_bytes;
  }
}

void check_index(std::string_view text) {
  for (const auto& [tensor, file] : hob::parse_safetensors_index(text, "fuzz"))
    require(file.find('/') == file.npos && file.ends_with(".safetensors"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    // The corpus's files begin with the length of their header: whole inputs are files too.
    check_file(std::as_bytes(std::span(data, size)));
  } catch (const hob::Error&) {
  }
  try {
    data[0] & 1 ? check_index(rest) : check_file(std::as_bytes(std::span(rest)));
  } catch (const hob::Error&) {
  }
  return 0;
}
