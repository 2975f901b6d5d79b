#pragma once
// How much each input of a matrix matters: mean squares of its activations on sample text, from a
// file in llama.cpp's GGUF form. Ref: research notes, serving §3.
#include <map>
#include <string>
#include <vector>

#include "format/model_file.h"

namespace hob {

class ImportanceMatrix {
 public:
  // Throws Error naming the file and the tensor when it is no such file or holds nonsense.
  static ImportanceMatrix open(const std::string& path);

  // [n_cols] for the rows of expert `expert` (0: not stacked); nullptr: nothing known about this
  // tensor, or the sample text never chose this expert. Throws Error(kInvalidArgument) when what is
  // known does not fit the tensor.
  const float* find(const RawTensor& tensor, int64_t expert) const;

  size_t n_tensors() const { return entries_.size(); }
  uint64_t hash() const { return hash_; }  // of all numbers

 private:
  struct Entry {
    int64_t n_experts = 0, n_cols = 0;
    std::vector<float> mean_squares;  // [n_experts][n_cols]
    std::vector<bool> used;           // [n_experts]
  };
  static Entry read_entry(const ModelFile& file, const RawTensor& sums, const RawTensor& counts);

  std::string path_;
  std::map<std::string, Entry> entries_;
  uint64_t hash_ = 0;
};

}  // namespace hob
