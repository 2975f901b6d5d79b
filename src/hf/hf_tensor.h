#pragma once
// One tensor as GGUF has it, and where its numbers are in the checkpoint.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hf/hf_family.h"
#include "hf/hf_rope.h"
#include "hf/packed_rows.h"
#include "hf/safetensors.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace hob {

// What matrices become; vectors are F32 always, and what is MXFP4 stays so.
enum class HfOutType : uint8_t { kAuto, kF32, kF16, kBF16, kQ8_0 };

// Which items (rows; of a bias: numbers) of a source are taken, slab by slab: a slab is a head, an
// expert, or the whole tensor.
struct HfItemMap {
  int64_t pitch = 0;  // source items per slab
  int64_t taken = 0;  // of the result, per slab
  int64_t first = 0, stride = 1;
  bool rotary = false;
  // Not 0: item i of the result is column first + i * stride of the slab's first `column_items`
  // items.
  int64_t column_items = 0;

  // In the slab; without column_items.
  int64_t source_of(int64_t i) const {
    return rotary ? i % 2 * (pitch / 2) + i / 2 : first + i * stride;
  }
};

// The type of the same numbers in GGUF; nothing for integers and others.
std::optional<DType> float_dtype(SafeType type);

struct HfSource {
  const SafeTensor* data = nullptr;
  const SafeTensor* scales = nullptr;  // MXFP4, packed
  const SafeTensor* zeros = nullptr;   // packed: PackedLinear
  const SafeTensor* groups = nullptr;
};

struct HfTensor {
  std::string name;
  DType dtype;
  Shape shape;
  // Equal shares of the tensor, one after the other (experts); empty: `values` are the tensor.
  std::vector<HfSource> sources;
  HfItemMap map;
  int64_t d_source = 1;              // numbers in an item of a source
  std::optional<HfPacking> packing;  // the sources are PackedLinear's arrays, items its rows
  int64_t packed_rows = 0;           // of a source
  float shift = 0;
  std::vector<float> values;

  uint64_t row_bytes() const { return hob::row_bytes(dtype, shape.cols()); }
};

// Finds every tensor of the family in the checkpoint. Strict: everything must be there and have its
// shape, and nothing may be left over but what is known to be of no use. The result points into
// `set`. `packing`: how quantised layers are packed, if the checkpoint has any.
std::vector<HfTensor> plan_hf_tensors(const HfGeometry& geometry, const HfRules& rules,
                                      const SafetensorsSet& set, HfOutType out_type,
                                      const std::optional<HfPacking>& packing = std::nullopt);
HfTensor computed_tensor(const HfComputed& computed);

// `blk.0.attn_q.order` of a packed `blk.0.attn_q.weight` that keeps its codes, where some source
// has inputs in another order (input_order()): for every row of the tensor's columns the number of
// its input, [n_in] or [n_experts, n_in]. Reads the sources' groups.
std::optional<HfTensor> find_order(const HfTensor& tensor, const SafetensorsSet& set);

// Gives the sources' bytes.
class HfFetch {
 public:
  virtual ~HfFetch() = default;
  // From byte `offset` of the tensor on.
  virtual void read(const SafeTensor& source, uint64_t offset, std::span<std::byte> dst) const = 0;
  // All of it where it lies, if it is in memory anyway; empty: read() it.
  virtual std::span<const std::byte> view(const SafeTensor&) const { return {}; }
};

// Rows [first, first + n) of the tensor as its shape has them; `dst` holds n * row_bytes(). Memory:
// about twice what is asked for; a transposed tensor fetches the slabs it touches whole, so ask for
// hf_piece_rows() at a time.
void make_hf_rows(const HfFetch& fetch, const HfTensor& tensor, int64_t first, int64_t n,
                  std::span<std::byte> dst);
// The same, read from the files.
void read_hf_rows(const SafetensorsSet& set, const HfTensor& tensor, int64_t first, int64_t n,
                  std::span<std::byte> dst);
int64_t hf_piece_rows(const HfTensor& tensor);

// Where these rows lie in a file just as they are: in order, without gaps, in the tensor's type.
// That is what an expert can be read from directly. nullopt: only read_hf_rows() can make them.
struct HfPlace {
  int file;         // index into SafetensorsSet::files()
  uint64_t offset;  // absolute, in that file
};
std::optional<HfPlace> find_hf_rows(const HfTensor& tensor, int64_t first, int64_t n);

// All that make_hf_rows() fetches for these rows lies in these ranges; few and long.
struct HfSourceRange {
  const SafeTensor* source;
  uint64_t offset, n_bytes;  // in the tensor
};
std::vector<HfSourceRange> find_hf_ranges(const HfTensor& tensor, int64_t first, int64_t n);

}  // namespace hob
