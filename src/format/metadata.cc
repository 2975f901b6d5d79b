#include <array>

#include "base/error.h"
#include "format/byte_source.h"
#include "format/metadata.h"

namespace hob {
namespace {

// In the order of MetaValue's alternatives.
constexpr std::array<std::string_view, std::variant_size_v<MetaValue>> kTypeNames = {
    "an unsigned integer",
    "an integer",
    "a float",
    "a bool",
    "a string",
    "an array of integers",
    "an array of floats",
    "an array of strings"};

[[noreturn]] void wrong_type(std::string_view key, std::string_view expected,
                             const MetaValue& value) {
  fail(Code::kDataLoss, "[gguf] key {}: expected {}, file has {}", printable(key), expected,
       kTypeNames[value.index()]);
}

[[noreturn]] void missing(std::string_view key, std::string_view expected) {
  fail(Code::kNotFound, "[gguf] key {}: expected {}, file has no such key", printable(key),
       expected);
}

template <class T>
const T* find_exact(const Metadata& metadata, std::string_view key, std::string_view expected) {
  const MetaValue* value = metadata.find(key);
  if (value == nullptr) return nullptr;
  const T* typed = std::get_if<T>(value);
  if (typed == nullptr) wrong_type(key, expected, *value);
  return typed;
}

}  // namespace

bool Metadata::has(std::string_view key) const { return find(key) != nullptr; }

const MetaValue* Metadata::find(std::string_view key) const {
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : &it->second;
}

std::optional<uint64_t> Metadata::find_uint(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* u = std::get_if<uint64_t>(value)) return *u;
  const auto* i = std::get_if<int64_t>(value);
  if (i == nullptr) wrong_type(key, "an integer", *value);
  if (*i < 0) {
    fail(Code::kDataLoss, "[gguf] key {}: expected 0 or more, file has {}", printable(key), *i);
  }
  return static_cast<uint64_t>(*i);
}

std::optional<double> Metadata::find_float(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* d = std::get_if<double>(value)) return *d;
  if (const auto* u = std::get_if<uint64_t>(value)) return static_cast<double>(*u);
  if (const auto* i = std::get_if<int64_t>(value)) return static_cast<double>(*i);
  wrong_type(key, "a number", *value);
}

std::optional<bool> Metadata::find_bool(std::string_view key) const {
  const bool* value = find_exact<bool>(*this, key, "a bool");
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<std::string> Metadata::find_string(std::string_view key) const {
  const auto* value = find_exact<std::string>(*this, key, "a string");
  return value ? std::optional(*value) : std::nullopt;
}

const std::vector<std::string>* Metadata::find_strings(std::string_view key) const {
  return find_exact<std::vector<std::string>>(*this, key, "an array of strings");
}

const std::vector<int64_t>* Metadata::find_ints(std::string_view key) const {
  return find_exact<std::vector<int64_t>>(*this, key, "an array of integers");
}

const std::vector<double>* Metadata::find_floats(std::string_view key) const {
  return find_exact<std::vector<double>>(*this, key, "an array of floats");
}

uint64_t Metadata::get_uint(std::string_view key) const {
  const auto value = find_uint(key);
  if (!value) missing(key, "an integer");
  return *value;
}

double Metadata::get_float(std::string_view key) const {
  const auto value = find_float(key);
  if (!value) missing(key, "a number");
  return *value;
}

std::string Metadata::get_string(std::string_view key) const {
  auto value = find_string(key);
  if (!value) missing(key, "a string");
  return *std::move(value);
}

void Metadata::set(std::string key, MetaValue value) {
  entries_.insert_or_assign(std::move(key), std::move(value));
}

void Metadata::erase(std::string_view key) {
  if (const auto it = entries_.find(key); it != entries_.end()) entries_.erase(it);
}

}  // namespace hob
