#pragma once
// Where each expert's bytes are. Ref: DESIGN decision 7; research notes, serving §3.4 (an expert is
// a contiguous slice of each of three tensors).
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "tensor/dtype.h"

namespace hob {

struct ExpertKey {
  int32_t layer = 0;
  int32_t expert = 0;
  auto operator<=>(const ExpertKey&) const = default;
};

// One of the three matrices of all experts of a layer: expert e lies at offset + e *
// bytes_per_expert of file `file`.
struct ExpertMatrix {
  DType dtype = DType::kF32;
  int rows = 0, cols = 0;
  int file = 0;
  uint64_t offset = 0;
  uint64_t bytes_per_expert = 0;
};

enum ExpertPart { kGate = 0, kUp = 1, kDown = 2 };

struct ExpertLayer {
  int n_experts = 0;                  // 0: this layer has no routed experts
  std::array<ExpertMatrix, 3> parts;  // indexed by ExpertPart
};

struct ExpertGeometry {
  std::vector<std::string> files;
  std::vector<ExpertLayer> layers;  // indexed by layer
};

}  // namespace hob
