#pragma once
// Tensors that are measured together: the same matrix of neighbouring layers.
#include <span>
#include <string>
#include <vector>

#include "format/model_file.h"

namespace hob {

struct TensorGroup {
  std::string name;  // of its first tensor, and how many there are: for people
  std::vector<const RawTensor*> tensors;
};

// At most `n_most` groups, or one per kind of matrix where that is more. A kind is a name without
// its layer; the layers of every kind are cut into as many bands of equal size as `n_most` allows.
std::vector<TensorGroup> group_tensors(std::span<const RawTensor* const> tensors, int n_most);

}  // namespace hob
