#pragma once
// A model some of whose tensors are rounded while they are read: what that costs can be measured
// without writing a file.
#include <span>

#include "format/model_file.h"

namespace hob {

// `model` with round_plain() values in `rounded` (tensors of `model`, rows of a multiple of 32).
// They keep their type; what is quantised already becomes F32, so that nothing is rounded twice.
// Reads the files of `model` and keeps its RowMaker alive, not the model.
ModelFile with_rounded(const ModelFile& model, std::span<const RawTensor* const> rounded);

}  // namespace hob
