#pragma once
// Request bodies: strict JSON, and typed access to its fields.
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/strict_json.h"
#include "serve/api_error.h"

namespace hob {

// Throws ApiError(400) on anything that is not one JSON object in UTF-8: trailing bytes, duplicate
// keys, too much depth, numbers outside double, lone surrogates.
Json parse_json_object(std::string_view body, const JsonLimits& limits = {});

// On one line; bytes that are no UTF-8 become U+FFFD.
std::string dump_json(const OrderedJson& value);

// One object's fields. Every getter: nullopt when missing or null, ApiError(400) naming the field
// when it has the wrong type or range.
class JsonFields {
 public:
  // `path`: of the object in the body, e.g. "options."; goes in front of names in errors.
  explicit JsonFields(const Json& object, std::string path = "");

  const Json* find(const char* name) const;  // nullptr when missing or null
  bool has(const char* name) const { return find(name) != nullptr; }
  std::optional<int64_t> integer(const char* name, int64_t least, int64_t most) const;
  std::optional<double> number(const char* name, double least, double most) const;
  std::optional<bool> boolean(const char* name) const;
  std::optional<std::string> string(const char* name) const;
  std::optional<std::vector<int32_t>> tokens(const char* name, int n_vocab) const;
  std::optional<JsonFields> object(const char* name) const;

  bool flag(const char* name, bool otherwise = false) const {
    return boolean(name).value_or(otherwise);
  }
  std::string path_of(const char* name) const { return path_ + name; }
  // "name: expected WHAT, got VALUE"
  [[noreturn]] void refuse(const char* name, const std::string& expected) const;
  [[noreturn]] void not_supported(const char* name) const;
  // Refuses the field unless it is missing, null, false, an empty list or an empty object.
  void refuse_if_used(const char* name) const;

 private:
  const Json* object_;
  std::string path_;
};

// A list of token ids; `name` for errors.
std::vector<int32_t> token_list(const Json& list, int n_vocab, const std::string& name);

}  // namespace hob
