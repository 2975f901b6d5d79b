#pragma once
// A model as files have it: metadata, and where its tensors' bytes are. A GGUF file (gguf.h) or a
// folder of safetensors (hf/open_model.h); whoever loads weights need not know which.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace hob {

// RawTensor::file of a tensor that no file holds as it is: a RowMaker makes it.
inline constexpr int kMadeTensor = -1;

struct RawTensor {
  std::string name;
  DType dtype;
  Shape shape;  // row-major: a linear weight is [n_out, n_in], experts are [n_experts, n_out, n_in]
  int file;     // index into ModelFile::files(), or kMadeTensor
  uint64_t offset;   // absolute, in that file; of a made tensor: its number for the RowMaker
  uint64_t n_bytes;  // of all rows
};

struct ByteRange {
  int file = 0;  // index into ModelFile::files()
  uint64_t offset = 0, n_bytes = 0;
};

// Makes rows of tensors out of what is in the files: reordered, put together, unpacked. Does no I/O
// itself, so that whoever reads chooses how. All functions from any thread.
class RowMaker {
 public:
  virtual ~RowMaker() = default;
  // Where these rows lie just as they are, in order and without gaps; nullopt: they must be made.
  virtual std::optional<ByteRange> place(size_t tensor, int64_t first, int64_t n) const = 0;
  // What make() wants to have been read.
  virtual std::vector<ByteRange> ranges(size_t tensor, int64_t first, int64_t n) const = 0;
  // Rows [first, first + n) of the tensor to `dst`; read[i] holds the bytes of ranges()[i]. Throws
  // Error when these bytes are not what they ought to be.
  virtual void make(size_t tensor, int64_t first, int64_t n, std::span<const std::byte* const> read,
                    std::byte* dst) const = 0;
  // Rows that are made together at little more cost than the bytes they come from.
  virtual int64_t piece_rows(size_t tensor) const = 0;
};

class ModelFile {
 public:
  ModelFile() = default;
  ModelFile(Metadata metadata, std::vector<RawTensor> tensors, std::vector<std::string> files,
            uint64_t total_bytes, std::shared_ptr<const RowMaker> maker = nullptr);

  const Metadata& metadata() const { return metadata_; }
  const std::vector<RawTensor>& tensors() const { return tensors_; }
  const RawTensor* find(std::string_view name) const;
  const std::vector<std::string>& files() const { return files_; }
  uint64_t total_bytes() const { return total_bytes_; }  // all shards
  // Of the tensors with file kMadeTensor; null when there are none.
  const std::shared_ptr<const RowMaker>& maker() const { return maker_; }

 private:
  Metadata metadata_;
  std::vector<RawTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<std::string> files_;
  uint64_t total_bytes_ = 0;
  std::shared_ptr<const RowMaker> maker_;
};

}  // namespace hob
