#include "hf/packed_rows.h"

#include <array>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "hf/packed_reader.h"
#include "tensor/blocks.h"

namespace hob {
namespace {

constexpr int kBlock = kPackedBlock;

using Codes = std::array<uint8_t, kBlock>;

void store(const Codes& q, uint32_t zero, uint16_t d, BlockG4* b) {
  b->d = d;
  b->z = static_cast<uint8_t>(zero);
  for (size_t j = 0; j < 16; j++) b->qs[j] = static_cast<uint8_t>(q[j] | q[j + 16] << 4);
}
void store(const Codes& q, uint32_t zero, uint16_t d, BlockG8* b) {
  b->d = d;
  b->z = static_cast<int8_t>(static_cast<int>(zero) - 128);
  for (size_t j = 0; j < kBlock; j++) b->qs[j] = static_cast<int8_t>(q[j] - 128);
}
template <class Block>
void store_twos(const Codes& q, uint32_t zero, uint16_t d, Block* b) {
  b->d = d;
  b->z = static_cast<uint8_t>(zero);
  for (size_t j = 0; j < 8; j++)
    b->qs[j] = static_cast<uint8_t>((q[j] & 3) | (q[j + 8] & 3) << 2 | (q[j + 16] & 3) << 4 |
                                    (q[j + 24] & 3) << 6);
}
void store(const Codes& q, uint32_t zero, uint16_t d, BlockG2* b) { store_twos(q, zero, d, b); }
void store(const Codes& q, uint32_t zero, uint16_t d, BlockG3* b) {
  store_twos(q, zero, d, b);
  for (size_t j = 0; j < 4; j++) {
    b->qh[j] = 0;
    for (size_t i = 0; i < 8; i++)
      b->qh[j] = static_cast<uint8_t>(b->qh[j] | (q[j + 4 * i] >> 2) << i);
  }
}

template <class Block>
void unpack(const PackedLinear& l, std::byte* dst) {
  const PackedReader read(l);
  const int64_t n_blocks = l.n_in / kBlock;
  const std::vector<int32_t> order = whole_order(l);
  // Block by block over all rows: GPTQ's and AWQ's words of neighbouring rows are neighbours.
  for (int64_t b = 0; b < n_blocks; b++) {
    const int32_t* from = order.data() + b * kBlock;
    const int64_t g = read.group_of_block(from);
    for (int64_t n = 0; n < l.n_out; n++) {
      Codes q;
      for (int64_t j = 0; j < kBlock; j++)
        q[static_cast<size_t>(j)] = static_cast<uint8_t>(read.code(from[j], n));
      Block block;
      store(q, read.zero(g, n), exact_half(l, read.scale(g, n)), &block);
      std::memcpy(dst + static_cast<size_t>(n * n_blocks + b) * sizeof block, &block, sizeof block);
    }
  }
}

}  // namespace

DType packed_type(const HfPacking& packing) {
  switch (packing.bits) {
    case 2:
      return DType::kG2;
    case 3:
      return DType::kG3;
    case 4:
      return DType::kG4;
    default:
      HOB_CHECK(packing.bits == 8);
      return DType::kG8;
  }
}

PackedShapes packed_shapes(const HfPacking& p, int64_t n_out, int64_t n_in) {
  const int64_t n_groups = n_in / p.group_of(n_in);
  const auto words = [&](int64_t n) { return n * p.bits / 32; };
  switch (p.method) {
    case HfPackMethod::kGptq:
      return {{words(n_in), n_out}, {n_groups, words(n_out)}, {n_groups, n_out}};
    case HfPackMethod::kAwq:
      return {{n_in, words(n_out)}, {n_groups, words(n_out)}, {n_groups, n_out}};
    case HfPackMethod::kCompressedTensors:
      return {{n_out, words(n_in)}, {words(n_out), n_groups}, {n_out, n_groups}};
  }
  HOB_CHECK(false);
}

std::vector<int32_t> input_order(const PackedLinear& l) {
  if (l.groups.empty()) return {};
  const PackedReader read(l);
  // Counting sort: inputs of a group keep their order.
  std::vector<int32_t> begin(static_cast<size_t>(read.n_groups()) + 1);
  bool sorted = true;
  for (int64_t k = 0, last = 0; k < l.n_in; k++) {
    const int64_t g = read.group(k);
    sorted &= g >= last;
    last = g;
    begin[static_cast<size_t>(g) + 1]++;
  }
  if (sorted) return {};
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<int32_t> order(static_cast<size_t>(l.n_in));
  for (int64_t k = 0; k < l.n_in; k++)
    order[static_cast<size_t>(begin[static_cast<size_t>(read.group(k))]++)] =
        static_cast<int32_t>(k);
  return order;
}

std::vector<int32_t> whole_order(const PackedLinear& l) {
  std::vector<int32_t> order = input_order(l);
  if (order.empty()) {
    order.resize(static_cast<size_t>(l.n_in));
    std::iota(order.begin(), order.end(), 0);
  }
  return order;
}

void unpack_rows_plain(const PackedLinear& l, std::byte* dst) {
  HOB_CHECK(l.n_in % kBlock == 0);
  switch (packed_type(l.packing)) {
    case DType::kG2:
      return unpack<BlockG2>(l, dst);
    case DType::kG3:
      return unpack<BlockG3>(l, dst);
    case DType::kG4:
      return unpack<BlockG4>(l, dst);
    default:
      return unpack<BlockG8>(l, dst);
  }
}

void unpack_floats(const PackedLinear& l, float* dst) {
  const PackedReader read(l);
  for (int64_t k = 0; k < l.n_in; k++) {
    const int64_t g = read.group(k);
    for (int64_t n = 0; n < l.n_out; n++) {
      const int q = static_cast<int>(read.code(k, n)), z = static_cast<int>(read.zero(g, n));
      dst[n * l.n_in + k] = static_cast<float>(q - z) * read.scale(g, n);
    }
  }
}

}  // namespace hob
