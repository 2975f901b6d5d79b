#pragma once
// Reads safetensors files: one, or the shards that model.safetensors.index.json names.
// Ref: research notes, serving §3.6. Reads only headers; tensor bytes are read on demand.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/byte_source.h"

namespace hob {

enum class SafeType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
};
std::string_view name_of(SafeType type);  // as files spell it: "BF16"
uint64_t bytes_of(SafeType type);

struct SafeTensor {
  std::string name;
  SafeType dtype;
  std::vector<int64_t> shape;  // row-major; may have no dimensions (a scalar) or one that is 0
  int file;                    // index into SafetensorsSet::files()
  uint64_t offset;             // absolute, in that file
  uint64_t n_bytes;
  std::string shape_text() const;  // "[4096,1024]"
};

// The reference implementation's limit.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// The tensors of one file, in the order of their bytes. `label` names the input in errors. Throws
// Error for everything that is wrong with the header: what this returns lies inside the source,
// without overlaps and holes.
std::vector<SafeTensor> parse_safetensors(const ByteSource& source, std::string_view label);

// weight_map: tensor name -> name of the file that holds it. The names are those of files in the
// same folder.
std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           std::string_view label);

class SafetensorsSet {
 public:
  // `dir` holds model.safetensors.index.json and its shards, or model.safetensors.
  static SafetensorsSet open(const std::string& dir);

  const std::vector<SafeTensor>& tensors() const { return tensors_; }
  const SafeTensor* find(std::string_view name) const;
  const std::vector<std::string>& files() const { return files_; }
  uint64_t total_bytes() const { return total_bytes_; }

  // Fills `dst` from byte `offset` of the tensor; the caller stays within it.
  void read(const SafeTensor& tensor, uint64_t offset, std::span<std::byte> dst) const;

 private:
  void add_file(const std::string& path);
  void check_weight_map(const std::map<std::string, std::string>& map,
                        std::string_view label) const;
  void make_index();

  std::vector<SafeTensor> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::vector<std::string> files_;
  std::vector<std::unique_ptr<FileSource>> sources_;
  uint64_t total_bytes_ = 0;
};

}  // namespace hob
