#pragma once
// Values of a model's tensors, in pieces.
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "format/model_file.h"
#include "format/row_reader.h"

namespace hob {

class WeightReader {
 public:
  explicit WeightReader(const ModelFile& file) : rows_(file) {}  // borrowed
  // Elements [first, first + n); whole rows are read.
  std::vector<float> values(const RawTensor& t, int64_t first, int64_t n) const;
  void copy(const RawTensor& t, const std::function<void(std::span<const std::byte>)>& sink) const;

 private:
  mutable RowReader rows_;  // has a buffer
};

// For types without blocks.
std::vector<std::byte> to_bytes(DType type, std::span<const float> values);

}  // namespace hob
