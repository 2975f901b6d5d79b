#include "text/hf/json.h"

#include "base/error.h"
#include "format/strict_json.h"

namespace hob::hf {
namespace {

// A value for an error message: short, on one line.
std::string shown(const Json& value) {
  constexpr size_t kMost = 60;
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  if (value.is_object()) {
    const auto type = value.find("type");
    return type != value.end() && type->is_string() ? "the kind " + shown(*type) : "an object";
  }
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
}

}  // namespace

Json parse_object(std::string_view text, std::string_view name) {
  if (text.size() > kMaxFileBytes) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected at most {} bytes, file has {}", name,
         kMaxFileBytes, text.size());
  }
  const JsonLimits limits{.max_depth = kMaxDepth, .max_values = kMaxValues};
  return parse_json_object(text, limits, [&](const std::string& fact) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected one JSON object, {}", name, fact);
  });
}

std::optional<Node> Node::find(const char* key) const {
  if (!value_->is_object()) refuse("an object");
  const auto it = value_->find(key);
  if (it == value_->end() || it->is_null()) return std::nullopt;
  return Node(*it, path_.empty() ? key : path_ + "." + key);
}

Node Node::object(const char* key) const {
  const std::optional<Node> node = find(key);
  if (!node) fail(Code::kDataLoss, "[tokenizer] {}: expected \"{}\", file has none", path_, key);
  if (!node->value().is_object()) node->refuse("an object");
  return *node;
}

std::optional<std::string> Node::find_string(const char* key) const {
  const std::optional<Node> node = find(key);
  if (!node) return std::nullopt;
  if (!node->value().is_string()) node->refuse("a text");
  return node->value().get<std::string>();
}

std::string Node::string(const char* key) const {
  std::optional<std::string> text = find_string(key);
  if (!text) fail(Code::kDataLoss, "[tokenizer] {}: expected \"{}\", file has none", path_, key);
  return *std::move(text);
}

bool Node::flag(const char* key, bool otherwise) const {
  const std::optional<Node> node = find(key);
  if (!node) return otherwise;
  if (!node->value().is_boolean()) node->refuse("true or false");
  return node->value().get<bool>();
}

bool Node::flag(const char* key) const {
  if (!find(key))
    fail(Code::kDataLoss, "[tokenizer] {}: expected \"{}\", file has none", path_, key);
  return flag(key, false);
}

int64_t Node::integer(const char* key, int64_t least, int64_t most) const {
  const std::optional<Node> node = find(key);
  if (!node) fail(Code::kDataLoss, "[tokenizer] {}: expected \"{}\", file has none", path_, key);
  const Json& value = node->value();
  // Unsigned values beyond int64 would wrap to negative ones.
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
  if (!fits || value.get<int64_t>() < least || value.get<int64_t>() > most) {
    node->refuse(fmt::format("an integer from {} to {}", least, most));
  }
  return value.get<int64_t>();
}

size_t Node::list_size(const char* key) const {
  const std::optional<Node> node = find(key);
  if (!node) fail(Code::kDataLoss, "[tokenizer] {}: expected \"{}\", file has none", path_, key);
  if (!node->value().is_array()) node->refuse("a list");
  return node->value().size();
}

Node Node::item(const char* key, size_t i) const {
  return Node((*value_)[key][i],
              fmt::format("{}{}{}[{}]", path_, path_.empty() ? "" : ".", key, i));
}

size_t Node::one_of(const char* key, std::initializer_list<std::string_view> names) const {
  const std::string name = string(key);
  std::string all;
  size_t i = 0;
  for (const std::string_view candidate : names) {
    if (candidate == name) return i;
    all += (i++ == 0 ? "" : ", ") + std::string(candidate);
  }
  find(key)->refuse("one of " + all);
}

void Node::refuse(std::string_view expected) const {
  fail(Code::kDataLoss, "[tokenizer] {}: expected {}, file has {}",
       path_.empty() ? "tokenizer.json" : path_, expected, shown(*value_));
}

}  // namespace hob::hf
