#pragma once
// A folder of transformers' files as a GGUF model: metadata, and tensors whose rows are read
// through the transforms that GGUF's layouts need.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/metadata.h"
#include "hf/hf_tensor.h"

namespace hob {

class HfCheckpoint {
 public:
  // Reads and checks everything but the numbers. Throws Error with one clear line.
  // `for_file`: see HfTokenizerOptions.
  static HfCheckpoint open(const std::string& dir, HfOutType out_type = HfOutType::kAuto,
                           bool for_file = true);

  const Metadata& metadata() const { return metadata_; }
  const std::vector<HfTensor>& tensors() const { return tensors_; }
  const std::vector<std::string>& files() const { return set_->files(); }
  uint64_t total_bytes() const { return set_->total_bytes(); }
  // Quantised layers become f16, because a GGUF file has no type that holds them as they are.
  bool unpacked() const { return unpacked_; }

  // As read_hf_rows(). From one thread at a time.
  void read_rows(const HfTensor& tensor, int64_t first, int64_t n, std::span<std::byte> dst) const {
    read_hf_rows(*set_, tensor, first, n, dst);
  }

 private:
  Metadata metadata_;
  std::unique_ptr<SafetensorsSet> set_;  // the tensors point into it
  std::vector<HfTensor> tensors_;
  bool unpacked_ = false;
};

// All keys but the tokenizer's and general.file_type. `name`: general.name.
Metadata hf_metadata(const HfConfig& config, const HfFamily& family, const std::string& name);

// Sets the tokenizer.* keys from the folder's tokenizer files; without any, says that the model has
// no vocabulary (tokenizer.ggml.model = "none", which llama.cpp knows too).
void add_tokenizer(const std::string& dir, Metadata& metadata, bool for_file = true);

}  // namespace hob
