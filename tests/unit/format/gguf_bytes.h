#pragma once
// Builds GGUF bytes field by field, right or wrong.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/align.h"
#include "base/error.h"
#include "format/gguf_parse.h"

namespace hob {

struct GgufBytes {
  std::string bytes;

  GgufBytes() = default;
  GgufBytes(int64_t n_tensors, int64_t n_kv, uint32_t version = 3) {
    bytes = "GGUF";
    put(version).put(n_tensors).put(n_kv);
  }
  template <class T>
  GgufBytes& put(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBytes& text(std::string_view s) {
    put(uint64_t{s.size()});
    bytes += s;
    return *this;
  }
  template <class T>
  GgufBytes& key(std::string_view name, GgufType type, T value) {
    return text(name).put(type).put(value);
  }
  GgufBytes& string_key(std::string_view name, std::string_view value) {
    return text(name).put(GgufType::kString).text(value);
  }
  // Follow with the elements.
  GgufBytes& array_key(std::string_view name, GgufType element, uint64_t n) {
    return text(name).put(GgufType::kArray).put(element).put(n);
  }
  // `dims` in file order: the contiguous one first.
  GgufBytes& tensor(std::string_view name, const std::vector<int64_t>& dims, uint32_t type,
                    uint64_t offset) {
    text(name).put(static_cast<uint32_t>(dims.size()));
    for (int64_t dim : dims) put(dim);
    return put(type).put(offset);
  }
  GgufBytes& pad(size_t alignment = kDefaultAlignment) {
    bytes.resize(round_up(bytes.size(), alignment), '\0');
    return *this;
  }
  GgufBytes& data(size_t n_bytes) {
    bytes.append(n_bytes, '\x11');
    return *this;
  }
};

struct MalformedCase {
  std::string name;
  std::string bytes;
  Code code;
  std::string message;  // part of it
};

std::vector<MalformedCase> malformed_cases();
// A small file that uses every value type; ends with the last byte of its last tensor.
std::string valid_gguf();

// The largest single allocation (bytes) since the last reset, in this process.
void reset_largest_allocation();
size_t largest_allocation();

}  // namespace hob
