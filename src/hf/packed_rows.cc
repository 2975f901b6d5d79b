#include "hf/packed_rows.h"

#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "format/byte_source.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace hob {
namespace {

constexpr int kBlock = 32;
// AWQ: nibble i of a word is column 8 * word + kAwqColumn[i]; and where column c is.
constexpr std::array<int, 8> kAwqColumn = {0, 2, 4, 6, 1, 3, 5, 7};
constexpr std::array<int, 8> awq_places() {
  std::array<int, 8> places{};
  for (int i = 0; i < 8; i++) places[static_cast<size_t>(kAwqColumn[static_cast<size_t>(i)])] = i;
  return places;
}
constexpr std::array<int, 8> kAwqPlace = awq_places();

template <class T>
T load(std::span<const std::byte> bytes, int64_t i) {
  T value;
  std::memcpy(&value, bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

// What one code, zero point, scale or group is; slow and plain.
class Reader {
 public:
  explicit Reader(const PackedLinear& linear)
      : l_(linear), p_(linear.packing), mask_((1u << p_.bits) - 1), group_(p_.group_of(l_.n_in)) {}

  uint32_t code(int64_t k, int64_t n) const {
    switch (p_.method) {
      case HfPackMethod::kGptq:
        return bits_at(l_.codes, k, n, l_.n_out);
      case HfPackMethod::kAwq:
        return nibble(l_.codes, k, n);
      case HfPackMethod::kCompressedTensors:
        return bits_along_row(l_.codes, n, k, words(l_.n_in));
    }
    return 0;
  }

  uint32_t zero(int64_t g, int64_t n) const {
    if (!p_.has_zeros) return 1u << (p_.bits - 1);
    switch (p_.method) {
      case HfPackMethod::kGptq:
        return gptq_zero(bits_along_row(l_.zeros, g, n, words(l_.n_out)));
      case HfPackMethod::kAwq:
        return nibble(l_.zeros, g, n);
      case HfPackMethod::kCompressedTensors:
        return bits_at(l_.zeros, n, g, n_groups());
    }
    return 0;
  }

  float scale(int64_t g, int64_t n) const {
    const int64_t i =
        p_.method == HfPackMethod::kCompressedTensors ? n * n_groups() + g : g * l_.n_out + n;
    float s = 0;
    switch (l_.scale_type) {
      case SafeType::kF16:
        s = f16_to_f32(load<uint16_t>(l_.scales, i));
        break;
      case SafeType::kBF16:
        s = bf16_to_f32(load<uint16_t>(l_.scales, i));
        break;
      case SafeType::kF32:
        s = load<float>(l_.scales, i);
        break;
      default:
        HOB_CHECK(!"a type of scales");
    }
    if (!std::isfinite(s))
      fail(Code::kDataLoss, "[hf] {}: expected finite scales, file has {}", printable(l_.name), s);
    return s;
  }

  int64_t group(int64_t k) const {
    if (l_.groups.empty()) return k / group_;
    const auto g = load<int32_t>(l_.groups, k);
    if (g < 0 || g >= n_groups())
      fail(Code::kDataLoss, "[hf] {}.g_idx: expected groups from 0 to {}, file has {}",
           printable(l_.name), n_groups() - 1, g);
    return g;
  }

  // Of the 32 inputs at `from`, which must share it.
  int64_t group_of_block(const int32_t* from) const {
    const int64_t g = group(*from);
    for (int64_t i = 1; i < kBlock; i++)
      if (group(from[i]) != g)
        fail(Code::kUnimplemented,
             "[hf] {}.g_idx: expected groups of whole blocks of {} inputs, group {} has others: "
             "'hob convert DIR OUT.gguf' makes a plain file of it",
             printable(l_.name), kBlock, g);
    return g;
  }

  int64_t n_groups() const { return l_.n_in / group_; }

 private:
  // The first format stores zero - 1. All ones: auto-gptq's older reader takes it for 0, but for 8
  // with 3 bits; its newer one for 2^bits throughout. As the older one.
  uint32_t gptq_zero(uint32_t stored) const {
    if (!p_.zeros_less_one) return stored;
    return p_.bits == 3 ? stored + 1 : (stored + 1) & mask_;
  }
  int64_t words(int64_t n) const { return n * p_.bits / 32; }

  // Code i of column `column`, packed along the columns of an array that is `width` words wide.
  uint32_t bits_at(std::span<const std::byte> a, int64_t i, int64_t column, int64_t width) const {
    const int64_t bit = i * p_.bits, word = bit / 32, shift = bit % 32;
    uint64_t both = load<uint32_t>(a, word * width + column);
    if (shift + p_.bits > 32)  // 3 bits: ten and two thirds in a word
      both |= uint64_t{load<uint32_t>(a, (word + 1) * width + column)} << 32;
    return static_cast<uint32_t>(both >> shift) & mask_;
  }
  uint32_t bits_along_row(std::span<const std::byte> a, int64_t row, int64_t i,
                          int64_t width) const {
    const int64_t bit = i * p_.bits, word = row * width + bit / 32, shift = bit % 32;
    uint64_t both = load<uint32_t>(a, word);
    if (shift + p_.bits > 32) both |= uint64_t{load<uint32_t>(a, word + 1)} << 32;
    return static_cast<uint32_t>(both >> shift) & mask_;
  }
  uint32_t nibble(std::span<const std::byte> a, int64_t row, int64_t column) const {
    const auto word = load<uint32_t>(a, row * (l_.n_out / 8) + column / 8);
    return word >> (4 * kAwqPlace[static_cast<size_t>(column % 8)]) & 15;
  }

  const PackedLinear& l_;
  const HfPacking& p_;
  const uint32_t mask_;
  const int64_t group_;
};

uint16_t exact_half(const PackedLinear& l, float scale) {
  const uint16_t half = f32_to_f16(scale);
  if (f16_to_f32(half) != scale)
    fail(
        Code::kUnimplemented,
        "[hf] {}: expected scales that f16 can hold, file has {}: 'hob convert DIR OUT.gguf' makes "
        "a plain file of it",
        printable(l.name), scale);
  return half;
}

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
  const Reader read(l);
  const int64_t n_blocks = l.n_in / kBlock;
  std::vector<int32_t> order = input_order(l);
  if (order.empty()) {
    order.resize(static_cast<size_t>(l.n_in));
    std::iota(order.begin(), order.end(), 0);
  }
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

std::vector<int32_t> input_order(const PackedLinear& l) {
  if (l.groups.empty()) return {};
  const Reader read(l);
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

void unpack_rows(const PackedLinear& l, std::byte* dst) {
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
  const Reader read(l);
  for (int64_t k = 0; k < l.n_in; k++) {
    const int64_t g = read.group(k);
    for (int64_t n = 0; n < l.n_out; n++) {
      const int q = static_cast<int>(read.code(k, n)), z = static_cast<int>(read.zero(g, n));
      dst[n * l.n_in + k] = static_cast<float>(q - z) * read.scale(g, n);
    }
  }
}

}  // namespace hob
