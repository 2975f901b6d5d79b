#pragma once
// Single numbers of packed arrays: what one code, zero point, scale or group is.
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "format/byte_source.h"
#include "hf/packed_rows.h"
#include "tensor/half.h"

namespace hob {

inline constexpr int kPackedBlock = 32;  // inputs in a block of the G types
// AWQ: nibble i of a word is column 8 * word + kAwqColumn[i]; and where column c is.
inline constexpr std::array<int, 8> kAwqColumn = {0, 2, 4, 6, 1, 3, 5, 7};
constexpr std::array<int, 8> awq_places() {
  std::array<int, 8> places{};
  for (int i = 0; i < 8; i++) places[static_cast<size_t>(kAwqColumn[static_cast<size_t>(i)])] = i;
  return places;
}
inline constexpr std::array<int, 8> kAwqPlace = awq_places();

template <class T>
T load_packed(std::span<const std::byte> bytes, int64_t i) {
  T value;
  std::memcpy(&value, bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

// Slow and plain.
class PackedReader {
 public:
  explicit PackedReader(const PackedLinear& linear)
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
        s = f16_to_f32(load_packed<uint16_t>(l_.scales, i));
        break;
      case SafeType::kBF16:
        s = bf16_to_f32(load_packed<uint16_t>(l_.scales, i));
        break;
      case SafeType::kF32:
        s = load_packed<float>(l_.scales, i);
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
    const auto g = load_packed<int32_t>(l_.groups, k);
    if (g < 0 || g >= n_groups())
      fail(Code::kDataLoss, "[hf] {}.g_idx: expected groups from 0 to {}, file has {}",
           printable(l_.name), n_groups() - 1, g);
    return g;
  }

  // Of the 32 inputs at `from`, which must share it.
  int64_t group_of_block(const int32_t* from) const {
    const int64_t g = group(*from);
    for (int64_t i = 1; i < kPackedBlock; i++)
      if (group(from[i]) != g)
        fail(Code::kUnimplemented,
             "[hf] {}.g_idx: expected groups of whole blocks of {} inputs, group {} has others: "
             "'hob convert DIR OUT.gguf' makes a plain file of it",
             printable(l_.name), kPackedBlock, g);
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
    uint64_t both = load_packed<uint32_t>(a, word * width + column);
    if (shift + p_.bits > 32)  // 3 bits: ten and two thirds in a word
      both |= uint64_t{load_packed<uint32_t>(a, (word + 1) * width + column)} << 32;
    return static_cast<uint32_t>(both >> shift) & mask_;
  }
  uint32_t bits_along_row(std::span<const std::byte> a, int64_t row, int64_t i,
                          int64_t width) const {
    const int64_t bit = i * p_.bits, word = row * width + bit / 32, shift = bit % 32;
    uint64_t both = load_packed<uint32_t>(a, word);
    if (shift + p_.bits > 32) both |= uint64_t{load_packed<uint32_t>(a, word + 1)} << 32;
    return static_cast<uint32_t>(both >> shift) & mask_;
  }
  uint32_t nibble(std::span<const std::byte> a, int64_t row, int64_t column) const {
    const auto word = load_packed<uint32_t>(a, row * (l_.n_out / 8) + column / 8);
    return word >> (4 * kAwqPlace[static_cast<size_t>(column % 8)]) & 15;
  }

  const PackedLinear& l_;
  const HfPacking& p_;
  const uint32_t mask_;
  const int64_t group_;
};

// The scale as the blocks hold it.
inline uint16_t exact_half(const PackedLinear& l, float scale) {
  const uint16_t half = f32_to_f16(scale);
  if (f16_to_f32(half) != scale)
    fail(
        Code::kUnimplemented,
        "[hf] {}: expected scales that f16 can hold, file has {}: 'hob convert DIR OUT.gguf' makes "
        "a plain file of it",
        printable(l.name), scale);
  return half;
}

// input_order(), never empty.
std::vector<int32_t> whole_order(const PackedLinear& linear);

}  // namespace hob
