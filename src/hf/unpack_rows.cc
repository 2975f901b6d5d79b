// Packed layers' rows, fast. An expert that is streamed from its folder passes through here each
// time, so this must keep up with the disk. The codes of a block of 32 inputs are taken for 64
// outputs at a time: GPTQ's words of neighbouring outputs are neighbours and their codes sit at the
// same bits, so one input's codes are a run of shifts and masks that the compiler makes vectors of.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "hf/packed_reader.h"
#include "tensor/blocks.h"

namespace hob {
namespace {

constexpr int64_t kTile = 64;
// Bytes of 64 outputs: codes of the block's inputs first, then the blocks' own bytes.
using Planes = std::array<std::array<uint8_t, kTile>, kPackedBlock>;

uint32_t load_word(const std::byte* at, int64_t i) {
  uint32_t word;
  std::memcpy(&word, at + 4 * i, sizeof word);
  return word;
}

// Nibbles 0 .. 3 of `word` as the low bytes of 16-bit numbers.
uint64_t spread_nibbles(uint64_t word) {
  word = (word | word << 24) & 0x000000FF000000FF;
  return (word | word << 12) & 0x000F000F000F000F;
}

// Codes of outputs [first, first + n) and the 32 inputs `from`.
class TileCodes {
 public:
  explicit TileCodes(const PackedLinear& linear)
      : l_(linear), bits_(linear.packing.bits), mask_((1u << bits_) - 1) {}

  void read(const int32_t* from, int64_t first, int64_t n, Planes& q) const {
    for (size_t j = 0; j < kPackedBlock; j++) {
      uint8_t* out = q[j].data();
      switch (l_.packing.method) {
        case HfPackMethod::kGptq:
          gptq(from[j], first, n, out);
          break;
        case HfPackMethod::kAwq:
          awq(from[j], first, n, out);
          break;
        case HfPackMethod::kCompressedTensors:
          compressed(from[j], first, n, out);
          break;
      }
    }
  }

 private:
  void gptq(int64_t k, int64_t first, int64_t n, uint8_t* __restrict q) const {
    const int64_t bit = k * bits_, shift = bit % 32;
    const std::byte* low = l_.codes.data() + 4 * (bit / 32 * l_.n_out + first);
    if (shift + bits_ <= 32) {
      for (int64_t i = 0; i < n; i++)
        q[i] = static_cast<uint8_t>(load_word(low, i) >> shift & mask_);
    } else {  // 3 bits
      const std::byte* high = low + 4 * l_.n_out;
      for (int64_t i = 0; i < n; i++)
        q[i] = static_cast<uint8_t>(
            (load_word(low, i) >> shift | load_word(high, i) << (32 - shift)) & mask_);
    }
  }

  // Columns 0, 2, 4, 6, then 1, 3, 5, 7.
  void awq(int64_t k, int64_t first, int64_t n, uint8_t* __restrict q) const {
    const std::byte* words = l_.codes.data() + 4 * (k * (l_.n_out / 8) + first / 8);
    for (int64_t i = 0; i < n / 8; i++) {
      const uint64_t word = load_word(words, i);
      const uint64_t codes = spread_nibbles(word & 0xFFFF) | spread_nibbles(word >> 16) << 8;
      std::memcpy(q + 8 * i, &codes, sizeof codes);
    }
  }

  void compressed(int64_t k, int64_t first, int64_t n, uint8_t* __restrict q) const {
    const int64_t bit = k * bits_, shift = bit % 32, width = l_.n_in * bits_ / 32;
    const std::byte* words = l_.codes.data() + 4 * (first * width + bit / 32);
    for (int64_t i = 0; i < n; i++)
      q[i] = static_cast<uint8_t>(load_word(words, i * width) >> shift & mask_);
  }

  const PackedLinear& l_;
  const int64_t bits_;
  const uint32_t mask_;
};

// The planes' codes become the bytes after a block's scale and zero point, in their order.
template <class Block>
void combine(Planes& q);

template <>
void combine<BlockG4>(Planes& q) {
  for (size_t j = 0; j < 16; j++)
    for (size_t i = 0; i < kTile; i++) q[j][i] = static_cast<uint8_t>(q[j][i] | q[j + 16][i] << 4);
}
template <>
void combine<BlockG8>(Planes& q) {
  for (auto& plane : q)
    for (uint8_t& byte : plane) byte ^= 128;  // code - 128
}
template <>
void combine<BlockG2>(Planes& q) {
  for (size_t j = 0; j < 8; j++)
    for (size_t i = 0; i < kTile; i++)
      q[j][i] = static_cast<uint8_t>((q[j][i] & 3) | (q[j + 8][i] & 3) << 2 |
                                     (q[j + 16][i] & 3) << 4 | (q[j + 24][i] & 3) << 6);
}
template <>
void combine<BlockG3>(Planes& q) {
  std::array<std::array<uint8_t, kTile>, 4> high{};
  for (size_t j = 0; j < kPackedBlock; j++)
    for (size_t i = 0; i < kTile; i++)
      high[j % 4][i] = static_cast<uint8_t>(high[j % 4][i] | q[j][i] >> 2 << j / 4);
  combine<BlockG2>(q);
  std::ranges::copy(high, q.begin() + 8);
}

// Of one group and the tile's outputs: the three bytes that a block begins with.
using Heads = std::array<std::array<std::byte, 3>, kTile>;

void read_heads(const PackedLinear& l, const PackedReader& read, int64_t g, int64_t first,
                int64_t n, Heads& heads) {
  const int less = l.packing.bits == 8 ? 128 : 0;
  for (int64_t i = 0; i < n; i++) {
    auto& head = heads[static_cast<size_t>(i)];
    const uint16_t d = exact_half(l, read.scale(g, first + i));
    std::memcpy(head.data(), &d, sizeof d);
    head[2] = static_cast<std::byte>(static_cast<int>(read.zero(g, first + i)) - less);
  }
}

template <class Block>
void unpack(const PackedLinear& l, std::byte* dst) {
  const PackedReader read(l);
  const TileCodes codes(l);
  const std::vector<int32_t> order = whole_order(l);
  const int64_t n_blocks = l.n_in / kPackedBlock;
  constexpr size_t kHead = sizeof(Heads::value_type);
  Planes q{};
  Heads heads;
  for (int64_t first = 0; first < l.n_out; first += kTile) {
    const int64_t n = std::min(kTile, l.n_out - first);
    for (int64_t b = 0, last_group = -1; b < n_blocks; b++) {
      const int32_t* from = order.data() + b * kPackedBlock;
      const int64_t g = read.group_of_block(from);
      if (g != last_group) read_heads(l, read, g, first, n, heads);
      last_group = g;
      codes.read(from, first, n, q);
      combine<Block>(q);
      for (int64_t i = 0; i < n; i++) {
        std::byte* block = dst + static_cast<size_t>((first + i) * n_blocks + b) * sizeof(Block);
        std::memcpy(block, heads[static_cast<size_t>(i)].data(), kHead);
        for (size_t j = 0; j < sizeof(Block) - kHead; j++)
          block[kHead + j] = std::byte{q[j][static_cast<size_t>(i)]};
      }
    }
  }
}

}  // namespace

void unpack_rows(const PackedLinear& l, std::byte* dst) {
  HOB_CHECK(l.n_in % kPackedBlock == 0);
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

}  // namespace hob
