#pragma once
// Parses one GGUF container from any byte source. ModelFile::open puts shards together.
#include <cstdint>
#include <string_view>
#include <vector>

#include "format/byte_source.h"
#include "format/model_file.h"

namespace hob {

struct GgufShard {
  Metadata metadata;
  std::vector<RawTensor> tensors;  // `file` is 0
  uint64_t n_bytes = 0;            // of the source
};

// `label` names the input in errors. The work and memory are bounded by the size of the source and
// by a fixed limit on metadata, whatever the input says.
GgufShard parse_gguf(const ByteSource& source, std::string_view label);

// GGUF's value types, as numbered in files.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr uint32_t kDefaultAlignment = 32;
constexpr uint32_t kMaxAlignment = 1 << 24;  // hob's own bound; files in use have 32 to 4096
constexpr size_t kMaxKeyBytes = 65535;
constexpr size_t kMaxTensorNameBytes = 63;  // ggml: 64 with the final NUL

}  // namespace hob
