#pragma once
// Rows of a model's tensors as its types have them, whether they lie in a file or are made.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "format/byte_source.h"
#include "format/model_file.h"

namespace hob {

class RowReader {
 public:
  explicit RowReader(const ModelFile& model);  // borrowed
  // Rows [first, first + n), row_bytes() each, to `dst`. From one thread at a time. Throws Error
  // for what cannot be read or made.
  void read(const RawTensor& tensor, int64_t first, int64_t n, std::span<std::byte> dst);

 private:
  void make(const RawTensor& tensor, int64_t first, int64_t n, std::byte* dst);

  const ModelFile& model_;
  std::vector<std::unique_ptr<FileSource>> sources_;  // of the model's files
  std::vector<std::byte> read_;
};

}  // namespace hob
