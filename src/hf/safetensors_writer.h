#pragma once
// Writes one safetensors file. Ref: research notes, serving §3.6.
#include <functional>

#include "hf/safetensors.h"

namespace hob {

class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name;
    SafeType dtype;
    std::vector<int64_t> shape;
    uint64_t n_bytes;
  };
  using Sink = std::function<void(std::span<const std::byte>)>;
  // Sends exactly tensor.n_bytes to the sink, in any number of pieces. Asked in the order of add().
  using Fill = std::function<void(size_t tensor, const Sink& sink)>;

  void add(std::string_view name, SafeType dtype, std::vector<int64_t> shape);
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Length, JSON and spaces, so that the first tensor begins at a multiple of 8.
  std::string header() const;
  // Replaces `path` in one step (AtomicFile).
  void write(const std::string& path, const Fill& fill) const;

 private:
  std::vector<Tensor> tensors_;
};

}  // namespace hob
