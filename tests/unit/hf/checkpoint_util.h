#pragma once
// Tiny checkpoints, written by the tests themselves.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hf/hf_checkpoint.h"
#include "unit/format/temp_folder.h"

namespace hob {

// Numbers with a shape, row-major, and the naive way to everything.
struct Array {
  std::vector<int64_t> shape;
  std::vector<float> values;

  bool operator==(const Array&) const = default;
  // Which coordinates of the source each of the result's has; the result has `new_shape`.
  template <class Index>
  Array pick(std::vector<int64_t> new_shape, const Index& source) const;
};

struct StoredTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

// A safetensors file of them; `header` replaces the true one.
std::string safetensors_bytes(const std::vector<StoredTensor>& tensors);
std::string with_header(std::string_view header, size_t n_data_bytes);

// A config.json of 2 layers, width 64, 4 heads, 2 of keys, 10 tokens; `more`: further fields.
std::string two_layer_config(const std::string& architecture, const std::string& more);

class TestCheckpoint {
 public:
  explicit TestCheckpoint(std::string config) : config_(std::move(config)) {}

  // Different numbers in every tensor, exact in the type.
  void add(const std::string& name, const std::vector<int64_t>& shape,
           const std::string& dtype = "BF16");
  void add_bytes(StoredTensor tensor) { tensors_.push_back(std::move(tensor)); }
  void remove(const std::string& name);
  void set_config(std::string config) { config_ = std::move(config); }
  // Writes the files; in `n_files` shards when more than one.
  void write(int n_files = 1) const;
  HfCheckpoint open(HfOutType type = HfOutType::kAuto) const;

  const Array& operator[](const std::string& name) const { return arrays_.at(name); }
  const TempFolder& folder() const { return folder_; }
  std::string dir() const { return folder_.path(); }

  // Parts that families share, with prefix "model.layers.{layer}.".
  void add_trunk(int64_t n_vocab, int64_t d_model, bool head = true);
  void add_attention(int layer, int64_t d_model, int64_t d_q, int64_t d_kv, bool bias = false);
  void add_norms(int layer, int64_t d_model);
  void add_ffn(const std::string& prefix, int64_t d_model, int64_t d_ff);  // gate, up, down

 private:
  TempFolder folder_;
  std::string config_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, Array> arrays_;
};

const HfTensor* find_tensor(const HfCheckpoint& checkpoint, std::string_view name);
// The whole tensor, dequantised; read in pieces of `piece` rows.
Array read_array(const HfCheckpoint& checkpoint, std::string_view name, int64_t piece = 1 << 20);
// The message of the Error that opening gives; "" when it gives none.
std::string error_of(const TestCheckpoint& checkpoint);

template <class Index>
Array Array::pick(std::vector<int64_t> new_shape, const Index& source) const {
  Array out{new_shape, {}};
  std::vector<int64_t> at(new_shape.size(), 0);
  for (;;) {
    const std::vector<int64_t> from = source(at);
    int64_t offset = 0;
    for (size_t i = 0; i < shape.size(); i++) offset = offset * shape[i] + from[i];
    out.values.push_back(values.at(static_cast<size_t>(offset)));
    size_t axis = at.size();
    while (axis > 0 && ++at[axis - 1] == new_shape[axis - 1]) at[--axis] = 0;
    if (axis == 0) return out;
  }
}

}  // namespace hob
