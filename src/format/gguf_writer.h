#pragma once
// Writes GGUF v3. Order of use: set() the keys, add() the tensors, then write() with a function
// that supplies the bytes of one tensor at a time, so that a file larger than memory can be
// written.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "format/gguf_parse.h"
#include "format/model_file.h"

namespace hob {

// A value with the exact type it gets in the file: other readers insist on uint32 for most keys.
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                               std::string, uint64_t, int64_t, double, std::vector<int32_t>,
                               std::vector<uint32_t>, std::vector<int64_t>, std::vector<float>,
                               std::vector<double>, std::vector<bool>, std::vector<std::string>>;

class GgufWriter {
 public:
  struct Tensor {
    std::string name;
    DType dtype;
    Shape shape;  // row-major, as RawTensor's
    uint64_t n_bytes;
  };
  using Sink = std::function<void(std::span<const std::byte>)>;
  // Sends exactly tensor.n_bytes to the sink, in any number of pieces.
  using Fill = std::function<void(const Tensor& tensor, const Sink& sink)>;

  explicit GgufWriter(uint32_t alignment = kDefaultAlignment);

  // A key that is there already gets the new value. general.alignment belongs to the constructor.
  void set(std::string_view key, GgufValue value);
  // Copies everything but general.alignment, with the narrowest of (u32, u64), (i32, i64) that
  // holds it, and f32.
  void set_all(const Metadata& metadata);
  void add(std::string_view name, DType dtype, const Shape& shape);

  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Everything before the first tensor, padded; the tensors follow, each padded to the alignment.
  std::string header() const;
  uint32_t alignment() const { return alignment_; }

  // Replaces `path` in one step (AtomicFile).
  void write(const std::string& path, const Fill& fill) const;
  void write(const Sink& out, const Fill& fill) const;

 private:
  uint32_t alignment_;
  std::vector<std::pair<std::string, GgufValue>> values_;
  std::vector<Tensor> tensors_;
};

}  // namespace hob
