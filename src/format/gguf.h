#pragma once
// GGUF v2/v3 reader. Ref: research notes, serving §3.1 (container) and §5.1 (what went wrong
// elsewhere). Reads only headers; tensor bytes are read by whoever needs them, from
// `files()[tensor.file]` at `tensor.offset`.
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

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

struct RawTensor {
  std::string name;
  DType dtype;
  Shape shape;  // row-major: a linear weight is [n_out, n_in], experts are [n_experts, n_out, n_in]
  int file;     // index into GgufFile::files()
  uint64_t offset;  // absolute, in that file
  uint64_t n_bytes;
};

class GgufFile {
 public:
  // Opens `path`; when it is a shard (`-00001-of-0000N.gguf`, split.count > 1) opens and checks all
  // shards. Throws Error with one clear line for everything that is wrong with the file.
  static GgufFile open(const std::string& path);

  const Metadata& metadata() const { return metadata_; }
  const std::vector<RawTensor>& tensors() const { return tensors_; }
  const RawTensor* find(std::string_view name) const;
  const std::vector<std::string>& files() const { return files_; }
  uint64_t total_bytes() const { return total_bytes_; }  // all shards

 private:
  Metadata metadata_;
  std::vector<RawTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<std::string> files_;
  uint64_t total_bytes_ = 0;
};

}  // namespace hob
