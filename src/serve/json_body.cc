#include "serve/json_body.h"

#include <fmt/format.h>

#include <cmath>
#include <unordered_set>

namespace hob {
namespace {

[[noreturn]] void bad_json(const std::string& fact) {
  throw ApiError(400, "body: expected a JSON object, " + fact, "", "invalid_json");
}

// Builds the document with nlohmann's own builder, but first looks at what it would accept
// silently. Not recursive: depth costs no stack.
class StrictHandler : public nlohmann::json_sax<Json> {
 public:
  StrictHandler(Json& root, const JsonLimits& limits) : build_(root, false), limits_(limits) {}

  bool null() override { return counted() && build_.null(); }
  bool boolean(bool value) override { return counted() && build_.boolean(value); }
  bool number_integer(number_integer_t value) override {
    return counted() && build_.number_integer(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    return counted() && build_.number_unsigned(value);
  }
  bool number_float(number_float_t value, const string_t& text) override {
    return counted() && build_.number_float(value, text);
  }
  bool string(string_t& value) override { return counted() && build_.string(value); }
  bool binary(binary_t& value) override { return build_.binary(value); }
  bool start_object(size_t n) override {
    keys_.emplace_back();
    return nested(keys_.size() + n_arrays_) && counted() && build_.start_object(n);
  }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second)
      bad_json(fmt::format("it has the key {} twice", quoted(Json(name))));
    return build_.key(name);
  }
  bool end_object() override {
    keys_.pop_back();
    return build_.end_object();
  }
  bool start_array(size_t n) override {
    n_arrays_++;
    return nested(keys_.size() + n_arrays_) && counted() && build_.start_array(n);
  }
  bool end_array() override {
    n_arrays_--;
    return build_.end_array();
  }
  bool parse_error(size_t position, const std::string&, const Json::exception& e) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
    std::string why = e.what();
    if (const size_t end = why.find("] "); end != std::string::npos) why.erase(0, end + 2);
    if (why.size() > 200) why.resize(200);
    bad_json(fmt::format("it is none at byte {}: {}", position, why));
  }

 private:
  bool counted() {
    if (++n_values_ > limits_.max_values)
      bad_json(fmt::format("it has more than {} values", limits_.max_values));
    return true;
  }
  bool nested(size_t depth) {
    if (depth > static_cast<size_t>(limits_.max_depth))
      bad_json(fmt::format("it is nested more than {} levels deep", limits_.max_depth));
    return true;
  }

  nlohmann::detail::json_sax_dom_parser<Json> build_;
  JsonLimits limits_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects that are open
  size_t n_arrays_ = 0, n_values_ = 0;
};

}  // namespace

std::string quoted(const Json& value) {
  constexpr size_t kMost = 60;
  std::string text =
      value.is_structured()
          ? fmt::format("{} of {}", value.is_array() ? "a list" : "an object", value.size())
          : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

Json parse_json_object(std::string_view body, const JsonLimits& limits) {
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) bad_json("it is empty");
  // nlohmann's lexer takes NUL for the end of the input, whatever follows.
  if (const size_t nul = body.find('\0'); nul != std::string_view::npos)
    bad_json(fmt::format("it is none at byte {}: a NUL", nul));
  Json root;
  StrictHandler handler(root, limits);
  Json::sax_parse(body.begin(), body.end(), &handler);  // errors throw
  if (!root.is_object()) bad_json("got " + quoted(root));
  return root;
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

std::optional<int64_t> whole_number(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto x = value.get<uint64_t>();
    return x <= static_cast<uint64_t>(INT64_MAX) ? std::optional(static_cast<int64_t>(x))
                                                 : std::nullopt;
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  constexpr double kExact = 9007199254740992;  // 2^53: above, doubles skip integers
  if (!value.is_number_float()) return std::nullopt;
  const auto x = value.get<double>();
  if (!(std::abs(x) <= kExact) || x != std::trunc(x)) return std::nullopt;
  return static_cast<int64_t>(x);
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
