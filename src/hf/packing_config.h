#pragma once
#include <optional>

#include "hf/hf_config.h"
#include "hf/packed_rows.h"

namespace hob {

// `quantization` is config.json's quantization_config, or an old GPTQ checkpoint's
// quantize_config.json. nullopt: a method whose tensors say for themselves what they are (mxfp4).
// Throws Error for methods, widths and options that hob does not read.
std::optional<HfPacking> read_packing(const HfFields& quantization);

}  // namespace hob
