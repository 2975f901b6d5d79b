#pragma once
// Values of a GGUF file's tensors, in pieces.
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "format/byte_source.h"
#include "format/model_file.h"

namespace hob {

class WeightReader {
 public:
  explicit WeightReader(const ModelFile& file);  // borrowed
  // Elements [first, first + n), whole blocks.
  std::vector<float> values(const RawTensor& t, int64_t first, int64_t n) const;
  void copy(const RawTensor& t, const std::function<void(std::span<const std::byte>)>& sink) const;

 private:
  std::vector<std::unique_ptr<FileSource>> files_;
};

// For types without blocks.
std::vector<std::byte> to_bytes(DType type, std::span<const float> values);

}  // namespace hob
