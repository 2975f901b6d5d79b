#pragma once
// A checkpoint's config.json and generation_config.json: typed, range-checked look-ups.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/strict_json.h"

namespace hob {

// Both inclusive.
struct HfRange {
  int64_t min, max;
};
// Far above every published model: they turn a lying config into one clear line instead of an
// overflow or a huge allocation.
inline constexpr HfRange kHfLayers{1, 4096}, kHfWidth{1, 1 << 22}, kHfHeads{1, 1 << 14},
    kHfExperts{1, 1 << 14}, kHfCtx{1, 1 << 30}, kHfVocab{1, 1 << 26}, kHfToken{0, (1 << 26) - 1};

// One object of the config, or several laid over each other (the first that has a key counts).
// `find_*`: nullopt when missing or null; `get_*`: an Error then. Both throw an Error naming the
// key when the value has the wrong type or range. The JSON must outlive it.
class HfFields {
 public:
  HfFields(std::vector<const Json*> objects, std::string path)
      : objects_(std::move(objects)), path_(std::move(path)) {}

  const Json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  std::optional<int64_t> find_int(std::string_view key, HfRange range) const;
  std::optional<double> find_float(std::string_view key, double min = -1e30,
                                   double max = 1e30) const;
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  std::optional<std::vector<double>> find_floats(std::string_view key) const;
  std::optional<std::vector<std::string>> find_strings(std::string_view key) const;
  std::optional<HfFields> find_object(std::string_view key) const;
  std::vector<std::string> keys() const;  // of all objects, each once
  bool empty() const { return keys().empty(); }

  int64_t get_int(std::string_view key, HfRange range) const;
  double get_float(std::string_view key, double min = -1e30, double max = 1e30) const;
  // Whichever of several spellings is there.
  std::optional<int64_t> find_int_of(std::initializer_list<const char*> keys, HfRange range) const;
  bool flag(std::string_view key) const { return find_bool(key).value_or(false); }

  // "config.json: rope_scaling.factor: expected WHAT, file has VALUE"
  [[noreturn]] void refuse(std::string_view key, std::string_view expected) const;
  // The same for a value that is sound, but not supported.
  [[noreturn]] void not_supported(std::string_view key, std::string_view expected) const;

 private:
  std::vector<const Json*> objects_;
  std::string path_;
};

// A small JSON object in a file of the checkpoint; errors name it `name`.
Json read_config_file(const std::string& path, const char* name);

class HfConfig {
 public:
  // Throws Error(kNotFound) without a config.json; generation_config.json may be missing.
  static HfConfig open(const std::string& dir);
  // `generation`: empty when there is none.
  static HfConfig parse(std::string_view config, std::string_view generation);

  // What transformers calls the model: "MixtralForCausalLM".
  const std::string& architecture() const { return architecture_; }
  // Keys that are nowhere in the files: transformers leaves out those of a nested config that have
  // their default value. `json` is one of our constants.
  void set_defaults(std::string_view json);
  // text_config (the language part of a multimodal model) over the file's own keys over defaults.
  HfFields fields() const;
  // Where generation ends: generation_config.json counts before config.json.
  std::vector<int64_t> eos_ids() const;
  std::optional<int64_t> bos_id() const;

 private:
  Json root_, generation_, defaults_;
  std::string architecture_;
};

}  // namespace hob
