#pragma once
// Strict reading of a tokenizer's JSON files: what a lenient reader would accept silently
// (duplicate keys, endless nesting, other types) is an Error that names the place.
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace hob::hf {

using Json = nlohmann::json;

// The largest published tokenizer.json (vocabularies of 262 000 tokens) has some 35 MB and 2
// million values.
inline constexpr size_t kMaxFileBytes = 256 << 20;
inline constexpr size_t kMaxValues = 16 << 20;
// Published ones have 8: pre_tokenizer / pretokenizers / [] / pattern and so on.
inline constexpr int kMaxDepth = 64;

// One JSON object. `name` ("tokenizer.json") stands in the errors.
Json parse_object(std::string_view text, std::string_view name);

// A part of the file with its place ("model", "normalizer.normalizers[1]") for the errors.
class Node {
 public:
  Node(const Json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  const Json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  bool is_null() const { return value_->is_null(); }

  // "type" of this object.
  std::string type() const { return string("type"); }
  std::optional<Node> find(const char* key) const;  // nullopt when missing or null
  Node object(const char* key) const;
  std::string string(const char* key) const;
  std::optional<std::string> find_string(const char* key) const;
  bool flag(const char* key) const;
  bool flag(const char* key, bool otherwise) const;
  // An integer from `least` to `most`.
  int64_t integer(const char* key, int64_t least, int64_t most) const;
  size_t list_size(const char* key) const;
  Node item(const char* key, size_t i) const;  // of a list
  // An enumeration's number.
  size_t one_of(const char* key, std::initializer_list<std::string_view> names) const;

  // "[tokenizer] path: expected WHAT, file has VALUE"
  [[noreturn]] void refuse(std::string_view expected) const;

 private:
  const Json* value_;
  std::string path_;
};

}  // namespace hob::hf
