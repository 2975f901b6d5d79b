#pragma once
// Where each expert's bytes are. Ref: DESIGN decision 7; research notes, serving §3.4 (an expert is
// a contiguous slice of each of three tensors).
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "format/model_file.h"
#include "tensor/dtype.h"

namespace hob {

struct ExpertKey {
  int32_t layer = 0;
  int32_t expert = 0;
  auto operator<=>(const ExpertKey&) const = default;
};

// What is read for one matrix of one expert. Packed checkpoints have codes, zero points, scales and
// group numbers apart.
class ExpertReads {
 public:
  static constexpr size_t kMost = 5;
  ExpertReads() = default;
  ExpertReads(const ByteRange& range) : n_(1) { ranges_[0] = range; }  // NOLINT: as good as one
  explicit ExpertReads(std::span<const ByteRange> ranges);
  size_t size() const { return n_; }
  std::span<const ByteRange> ranges() const& { return {ranges_.data(), n_}; }
  std::span<const ByteRange> ranges() const&& = delete;  // it would outlive its owner
  uint64_t n_bytes() const;

 private:
  std::array<ByteRange, kMost> ranges_;
  size_t n_ = 0;
};

// One of the three matrices of all experts of a layer.
struct ExpertMatrix {
  DType dtype = DType::kF32;
  int rows = 0, cols = 0;
  // Expert e lies at offset + e * bytes_per_expert of file `file`; or where `reads` says.
  int file = 0;
  uint64_t offset = 0;
  uint64_t bytes_per_expert = 0;   // as stock rows of `dtype`
  std::vector<ExpertReads> reads;  // [n_experts] or empty
  // Not kNotMade: the matrix must be made of what was read, by the geometry's maker, of which this
  // is a tensor: its rows from e * rows on.
  static constexpr int64_t kNotMade = -1;
  int64_t made_tensor = kNotMade;

  bool is_made() const { return made_tensor != kNotMade; }
  ExpertReads reads_of(int expert) const;
};
// Bytes that the matrix of any one expert may need when it is read with aligned offsets.
uint64_t largest_read(const ExpertMatrix& m);

// Memory between the disk and the slots, for one matrix of an expert at a time.
struct StagingNeeds {
  uint64_t read = 0;  // largest_read() of all matrices; 0 = all experts are slabs
  uint64_t made = 0;  // the largest matrix that is made; 0 = none is
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
  std::shared_ptr<const RowMaker> maker;  // of matrices that are made
  std::vector<ExpertLayer> layers;        // indexed by layer
  std::vector<ExpertLayer> low;           // the low-precision copies: empty, or as long as `layers`
};

}  // namespace hob
