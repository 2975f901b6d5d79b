#pragma once
// JSON from outside, read more strictly than the library does: no duplicate keys, no NUL, bounds on
// depth and size. Whoever asks says how a fault is reported.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace hob {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

struct JsonLimits {
  int max_depth = 64;
  // A value costs up to 60 bytes, so that a body of 8 MiB full of "[]," would take 160 MiB.
  size_t max_values = 512 << 10;
};

// Gets what is wrong ("it is empty", "it has the key \"a\" twice") and must throw.
using JsonRefusal = std::function<void(const std::string& fact)>;

// One JSON object in UTF-8 and nothing after it. Not recursive: depth costs no stack.
Json parse_json_object(std::string_view text, const JsonLimits& limits, const JsonRefusal& refuse);

// The integer that `value` is: 3 and, as JSON Schema sees it, 3.0. nullopt for anything else and
// outside int64.
std::optional<int64_t> whole_number(const Json& value);
// A value for an error message: short.
std::string quoted(const Json& value);

}  // namespace hob
