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

// One expert as one run of bytes in a pack file: the image of its slot (expert_layout.h), so that a
// single direct read fills the slot and nothing is repacked.
struct ExpertSlab {
  uint64_t offset = 0;   // in the pack, a multiple of 4096
  uint64_t n_bytes = 0;  // ExpertLayout::n_bytes, whole pages
  uint64_t hash = 0;     // XXH3 (64 bits) of these bytes
};

struct ExpertLayer {
  int n_experts = 0;                  // 0: this layer has no routed experts
  std::array<ExpertMatrix, 3> parts;  // indexed by ExpertPart
  // From a pack: the experts' slabs in file `slab_file`; then only dtype, rows and cols of `parts`
  // hold. Empty: stock GGUF.
  int slab_file = -1;
  std::vector<ExpertSlab> slabs;  // [n_experts] or empty
};

// The versions of an expert. High is the model's own precision, without loss.
enum class Precision : uint8_t { kHigh = 0, kLow = 1 };

struct ExpertGeometry {
  std::vector<std::string> files;
  std::vector<ExpertLayer> layers;  // indexed by layer
  std::vector<ExpertLayer> low;     // the low-precision copies: empty, or as long as `layers`
};

}  // namespace hob
