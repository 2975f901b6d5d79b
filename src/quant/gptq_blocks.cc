#include "quant/gptq_blocks.h"

#include <cstring>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace hob {
namespace {

void put_nibbles(const uint8_t* codes, uint8_t* qs) {
  for (int j = 0; j < kBlock32 / 2; j++)
    qs[j] = static_cast<uint8_t>(codes[j] | codes[j + kBlock32 / 2] << 4);
}

template <class Block>
void append(const Block& block, std::vector<std::byte>& out) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&block);
  out.insert(out.end(), bytes, bytes + sizeof block);
}

}  // namespace

std::optional<DType> block_type(const GridParams& params) {
  if (params.group != kBlock32) return std::nullopt;
  if (params.bits == 4 && params.kind == GridKind::kSymmetric) return DType::kQ4_0;
  if (params.bits == 4 && params.kind == GridKind::kOffset) return DType::kQ4_1;
  if (params.bits == 8 && params.kind == GridKind::kSymmetric) return DType::kQ8_0;
  return std::nullopt;
}

std::optional<GridParams> grid_of(DType type, const GridParams& like) {
  GridParams grid = like;
  grid.group = kBlock32;
  for (const int bits : {4, 8})
    for (const GridKind kind : {GridKind::kSymmetric, GridKind::kOffset}) {
      grid.bits = bits;
      grid.kind = kind;
      if (block_type(grid) == type) return grid;
    }
  return std::nullopt;
}

void append_blocks(const QuantisedMatrix& q, DType type, std::vector<std::byte>& out) {
  HOB_CHECK(q.group == kBlock32);
  for (size_t b = 0; b < q.grids.size(); b++) {
    const GroupGrid& g = q.grids[b];
    const uint8_t* const codes = &q.codes[b * kBlock32];
    const uint16_t d = f32_to_f16(g.scale);
    if (type == DType::kQ4_0) {
      BlockQ4_0 block{.d = d, .qs = {}};
      put_nibbles(codes, block.qs);
      append(block, out);
    } else if (type == DType::kQ4_1) {
      BlockQ4_1 block{.d = d, .m = f32_to_f16(g.offset), .qs = {}};
      put_nibbles(codes, block.qs);
      append(block, out);
    } else {
      HOB_CHECK(type == DType::kQ8_0);
      BlockQ8_0 block{.d = d, .qs = {}};
      for (int j = 0; j < kBlock32; j++) block.qs[j] = static_cast<int8_t>(codes[j] - g.zero);
      append(block, out);
    }
  }
}

}  // namespace hob
