#include "serve/json_body.h"

#include <fmt/format.h>

#include <cmath>

namespace hob {
namespace {

[[noreturn]] void bad_json(const std::string& fact) {
  throw ApiError(400, "body: expected a JSON object, " + fact, "", "invalid_json");
}

}  // namespace

Json parse_json_object(std::string_view body, const JsonLimits& limits) {
  return parse_json_object(body, limits, bad_json);
}

std::string dump_json(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

JsonFields::JsonFields(const Json& object, std::string path)
    : object_(&object), path_(std::move(path)) {
  if (!object.is_object())
    throw ApiError(400, fmt::format("{}: expected an object, got {}", path_, quoted(object)),
                   path_);
}

const Json* JsonFields::find(const char* name) const {
  const auto it = object_->find(name);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

void JsonFields::refuse(const char* name, const std::string& expected) const {
  const Json* value = find(name);
  throw ApiError(400,
                 fmt::format("{}: expected {}, got {}", path_of(name), expected,
                             value ? quoted(*value) : "nothing"),
                 path_of(name));
}

void JsonFields::not_supported(const char* name) const {
  throw ApiError(400, fmt::format("{}: not supported yet", path_of(name)), path_of(name),
                 "unsupported_parameter");
}

void JsonFields::refuse_if_used(const char* name) const {
  const Json* value = find(name);
  if (!value || (value->is_structured() && value->empty())) return;
  if (value->is_boolean() && !value->get<bool>()) return;
  not_supported(name);
}

std::optional<int64_t> JsonFields::integer(const char* name, int64_t least, int64_t most) const {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  const auto x = whole_number(*value);
  if (!x || *x < least || *x > most)
    refuse(name, fmt::format("an integer from {} to {}", least, most));
  return x;
}

std::optional<double> JsonFields::number(const char* name, double least, double most) const {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  const double x = value->is_number() ? value->get<double>() : NAN;
  if (!(x >= least && x <= most)) refuse(name, fmt::format("a number from {} to {}", least, most));
  return x;
}

std::optional<bool> JsonFields::boolean(const char* name) const {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) refuse(name, "true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonFields::string(const char* name) const {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) refuse(name, "a string");
  return value->get<std::string>();
}

std::optional<JsonFields> JsonFields::object(const char* name) const {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  return JsonFields(*value, path_of(name) + ".");
}

std::vector<int32_t> token_list(const Json& list, int n_vocab, const std::string& name) {
  if (!list.is_array())
    throw ApiError(400, fmt::format("{}: expected a list of token ids, got {}", name, quoted(list)),
                   name);
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& item : list) {
    const auto id = whole_number(item);
    if (!id || *id < 0 || *id >= n_vocab)
      throw ApiError(400,
                     fmt::format("{}: expected token ids from 0 to {}, entry {} is {}", name,
                                 n_vocab - 1, ids.size(), quoted(item)),
                     name);
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

std::optional<std::vector<int32_t>> JsonFields::tokens(const char* name, int n_vocab) const {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  return token_list(*value, n_vocab, path_of(name));
}

}  // namespace hob
