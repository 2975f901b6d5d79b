#include "hf/hf_config.h"

#include <algorithm>

#include <filesystem>

#include "base/error.h"
#include "format/byte_source.h"
#include "hf/file_text.h"

namespace hob {
namespace {

constexpr uint64_t kMaxConfigBytes = 4 << 20;
constexpr JsonLimits kLimits{.max_depth = 32, .max_values = 256 << 10};
constexpr const char* kConfigName = "config.json";
constexpr const char* kGenerationName = "generation_config.json";

Json parse(std::string_view text, const char* name) {
  return parse_json_object(text, kLimits, [&](const std::string& fact) {
    fail(Code::kDataLoss, "[hf] {}: expected a JSON object, {}", name, fact);
  });
}

std::string read_architecture(const Json& root) {
  const auto list = root.find("architectures");
  if (list == root.end() || !list->is_array() || list->empty() || !list->front().is_string())
    fail(Code::kDataLoss, "[hf] {}: architectures: expected a list with a name, file has {}",
         kConfigName, list == root.end() ? "none" : quoted(*list));
  return list->front().get<std::string>();
}

// One id or a list of them; empty when the key is missing or null.
std::vector<int64_t> token_ids(const Json& object, const char* file, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return {};
  std::vector<int64_t> ids;
  for (const Json& item : it->is_array() ? *it : Json::array({*it})) {
    const auto id = whole_number(item);
    if (!id || *id < kHfToken.min || *id > kHfToken.max)
      fail(Code::kDataLoss, "[hf] {}: {}: expected token ids, file has {}", file, key,
           quoted(item));
    ids.push_back(*id);
  }
  return ids;
}

}  // namespace

const Json* HfFields::find(std::string_view key) const {
  for (const Json* object : objects_) {
    const auto it = object->find(std::string(key));
    if (it != object->end() && !it->is_null()) return &*it;
  }
  return nullptr;
}

void HfFields::refuse(std::string_view key, std::string_view expected) const {
  const Json* value = find(key);
  fail(Code::kDataLoss, "[hf] {}: {}{}: expected {}, file has {}", kConfigName, path_, key,
       expected, value ? quoted(*value) : "none");
}

void HfFields::not_supported(std::string_view key, std::string_view expected) const {
  const Json* value = find(key);
  fail(Code::kUnimplemented, "[hf] {}: {}{}: expected {}, file has {}", kConfigName, path_, key,
       expected, value ? quoted(*value) : "none");
}

std::optional<int64_t> HfFields::find_int(std::string_view key, HfRange range) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  const std::optional<int64_t> x = whole_number(*value);
  if (!x || *x < range.min || *x > range.max)
    refuse(key, fmt::format("a whole number from {} to {}", range.min, range.max));
  return x;
}

std::optional<double> HfFields::find_float(std::string_view key, double min, double max) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  const bool in_range =
      value->is_number() && value->get<double>() >= min && value->get<double>() <= max;
  if (!in_range) refuse(key, fmt::format("a number from {:g} to {:g}", min, max));
  return value->get<double>();
}

std::optional<bool> HfFields::find_bool(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) refuse(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> HfFields::find_string(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_string()) refuse(key, "a string");
  return value->get<std::string>();
}

std::optional<std::vector<double>> HfFields::find_floats(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_array()) refuse(key, "a list of numbers");
  std::vector<double> out;
  for (const Json& item : *value) {
    if (!item.is_number()) refuse(key, "a list of numbers only");
    out.push_back(item.get<double>());
  }
  return out;
}

std::optional<std::vector<std::string>> HfFields::find_strings(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_array()) refuse(key, "a list of strings");
  std::vector<std::string> out;
  for (const Json& item : *value) {
    if (!item.is_string()) refuse(key, "a list of strings only");
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::optional<HfFields> HfFields::find_object(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_object()) refuse(key, "an object");
  return HfFields({value}, fmt::format("{}{}.", path_, key));
}

std::vector<std::string> HfFields::keys() const {
  std::vector<std::string> keys;
  for (const Json* object : objects_)
    for (const auto& [key, value] : object->items())
      if (std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
  return keys;
}

int64_t HfFields::get_int(std::string_view key, HfRange range) const {
  const auto value = find_int(key, range);
  if (!value) refuse(key, fmt::format("a whole number from {} to {}", range.min, range.max));
  return *value;
}

double HfFields::get_float(std::string_view key, double min, double max) const {
  const auto value = find_float(key, min, max);
  if (!value) refuse(key, fmt::format("a number from {:g} to {:g}", min, max));
  return *value;
}

std::optional<int64_t> HfFields::find_int_of(std::initializer_list<const char*> keys,
                                             HfRange range) const {
  for (const char* key : keys)
    if (const auto value = find_int(key, range)) return value;
  return std::nullopt;
}

Json read_config_file(const std::string& path, const char* name) {
  return hob::parse(read_small_file(path, kMaxConfigBytes), name);
}

HfConfig HfConfig::parse(std::string_view config, std::string_view generation) {
  HfConfig c;
  c.root_ = hob::parse(config, kConfigName);
  c.generation_ = generation.empty() ? Json::object() : hob::parse(generation, kGenerationName);
  c.defaults_ = Json::object();
  c.architecture_ = read_architecture(c.root_);
  const auto text = c.root_.find("text_config");
  if (text != c.root_.end() && !text->is_object())
    fail(Code::kDataLoss, "[hf] {}: text_config: expected an object, file has {}", kConfigName,
         quoted(*text));
  return c;
}

HfConfig HfConfig::open(const std::string& dir) {
  const std::filesystem::path folder(dir);
  const std::string config = read_small_file(folder / kConfigName, kMaxConfigBytes);
  std::error_code ignored;
  const auto generation = folder / kGenerationName;
  if (!std::filesystem::exists(generation, ignored)) return parse(config, {});
  return parse(config, read_small_file(generation, kMaxConfigBytes));
}

void HfConfig::set_defaults(std::string_view json) {
  if (!json.empty()) defaults_ = hob::parse(json, "defaults");
}

HfFields HfConfig::fields() const {
  std::vector<const Json*> objects;
  if (const auto text = root_.find("text_config"); text != root_.end()) objects.push_back(&*text);
  objects.push_back(&root_);
  objects.push_back(&defaults_);
  return {std::move(objects), ""};
}

std::vector<int64_t> HfConfig::eos_ids() const {
  std::vector<int64_t> ids = token_ids(generation_, kGenerationName, "eos_token_id");
  return ids.empty() ? token_ids(root_, kConfigName, "eos_token_id") : ids;
}

std::optional<int64_t> HfConfig::bos_id() const {
  std::vector<int64_t> ids = token_ids(generation_, kGenerationName, "bos_token_id");
  if (ids.empty()) ids = token_ids(root_, kConfigName, "bos_token_id");
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

}  // namespace hob
