#include "format/strict_json.h"

#include <fmt/format.h>

#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"

namespace hob {
namespace {

// Builds the document with nlohmann's own builder, but first looks at what it would accept
// silently. Not recursive: depth costs no stack.
class StrictHandler : public nlohmann::json_sax<Json> {
 public:
  StrictHandler(Json& root, const JsonLimits& limits, const JsonRefusal& refuse)
      : build_(root, false), limits_(limits), refuse_(refuse) {}

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
      refuse_(fmt::format("it has the key {} twice", quoted(Json(name))));
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
    refuse_(fmt::format("it is none at byte {}: {}", position, why));
    return false;
  }

 private:
  bool counted() {
    if (++n_values_ > limits_.max_values)
      refuse_(fmt::format("it has more than {} values", limits_.max_values));
    return true;
  }
  bool nested(size_t depth) {
    if (depth > static_cast<size_t>(limits_.max_depth))
      refuse_(fmt::format("it is nested more than {} levels deep", limits_.max_depth));
    return true;
  }

  nlohmann::detail::json_sax_dom_parser<Json> build_;
  JsonLimits limits_;
  const JsonRefusal& refuse_;
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

Json parse_json_object(std::string_view text, const JsonLimits& limits, const JsonRefusal& refuse) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) refuse("it is empty");
  // nlohmann's lexer takes NUL for the end of the input, whatever follows.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    refuse(fmt::format("it is none at byte {}: a NUL", nul));
  Json root;
  StrictHandler handler(root, limits, refuse);
  Json::sax_parse(text.begin(), text.end(), &handler);  // errors throw
  if (!root.is_object()) refuse("got " + quoted(root));
  return root;
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

}  // namespace hob
