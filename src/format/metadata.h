#pragma once
// A model's metadata: GGUF's keys and values, wherever they come from.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hob {

// One metadata value. Arrays keep GGUF's element class: integers and bools widen to int64, floats
// to double.
using MetaValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

// Typed look-ups. `get_*` throw Error naming the key when it is missing or of another type or out
// of range; `find_*` return nullopt when it is missing and throw when it is of another type.
class Metadata {
 public:
  bool has(std::string_view key) const;
  const MetaValue* find(std::string_view key) const;

  std::optional<uint64_t> find_uint(std::string_view key) const;  // any integer type, must be >= 0
  std::optional<double> find_float(std::string_view key) const;   // float or integer
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  // nullptr when missing. The arrays live as long as the Metadata.
  const std::vector<std::string>* find_strings(std::string_view key) const;
  const std::vector<int64_t>* find_ints(std::string_view key) const;
  const std::vector<double>* find_floats(std::string_view key) const;

  uint64_t get_uint(std::string_view key) const;
  double get_float(std::string_view key) const;
  std::string get_string(std::string_view key) const;

  void set(std::string key, MetaValue value);
  void erase(std::string_view key);  // nothing happens when it is not there
  const std::map<std::string, MetaValue, std::less<>>& entries() const { return entries_; }

 private:
  std::map<std::string, MetaValue, std::less<>> entries_;
};

}  // namespace hob
