#pragma once
// Tensors of a GGUF file by what their matrices read and what reads theirs.
#include <optional>
#include <string_view>

#include "quant/calibration.h"

namespace hob {

struct LayerMatrix {
  int layer = 0;
  LinearInput input = LinearInput::kAttention;
  std::optional<LinearInput> output;  // its rows are channels of this input, one by one
  bool routed = false;                // one matrix per expert
  InputKey key(int expert) const { return {layer, input, routed ? expert : -1}; }
};

// Nothing for all tensors that calibration does not know.
std::optional<LayerMatrix> layer_matrix(std::string_view tensor_name);

// N of "blk.N.rest", and the rest; nothing for other names.
struct LayerName {
  int layer = 0;
  std::string_view rest;
};
std::optional<LayerName> layer_name(std::string_view tensor_name);

}  // namespace hob
