// Codes into the words of GPTQ's and AWQ's files: the reverse of packed_rows.cc.
#include "base/error.h"
#include "hf/packed_rows.h"
#include "tensor/half.h"

namespace hob {
namespace {

// `bits` of `value` as number i of a row or column of words that are `step` words apart.
void put(std::vector<uint32_t>& words, int64_t first, int64_t step, int64_t i, int bits,
         uint32_t value) {
  const int64_t bit = i * bits, shift = bit % 32;
  const auto at = static_cast<size_t>(first + bit / 32 * step);
  words[at] |= value << shift;
  if (shift + bits > 32) words[at + static_cast<size_t>(step)] |= value >> (32 - shift);
}

// AWQ: column 8 * word + c is this nibble of the word.
void put_nibble(std::vector<uint32_t>& words, int64_t row, int64_t n_columns, int64_t column,
                uint32_t value) {
  constexpr int kPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  words[static_cast<size_t>(row * (n_columns / 8) + column / 8)] |= value
                                                                    << (4 * kPlace[column % 8]);
}

}  // namespace

PackedArrays pack_rows(const HfPacking& p, const LinearCodes& l) {
  const bool awq = p.method == HfPackMethod::kAwq;
  HOB_CHECK(awq || p.method == HfPackMethod::kGptq);
  const int64_t n_groups = l.n_in / p.group_of(l.n_in);
  HOB_CHECK(l.n_out * p.bits % 32 == 0 && l.n_in * p.bits % 32 == 0);
  PackedArrays a;
  a.codes.resize(static_cast<size_t>(l.n_in * l.n_out * p.bits / 32));
  a.zeros.resize(static_cast<size_t>(n_groups * l.n_out * p.bits / 32));
  a.scales.resize(static_cast<size_t>(n_groups * l.n_out));
  const uint32_t mask = (1u << p.bits) - 1;
  for (int64_t n = 0; n < l.n_out; n++) {
    for (int64_t k = 0; k < l.n_in; k++) {
      const uint32_t q = l.codes[static_cast<size_t>(n * l.n_in + k)];
      awq ? put_nibble(a.codes, k, l.n_out, n, q) : put(a.codes, n, l.n_out, k, p.bits, q);
    }
    for (int64_t g = 0; g < n_groups; g++) {
      const auto from = static_cast<size_t>(n * n_groups + g);
      const uint32_t zero = l.zeros[from];
      a.scales[static_cast<size_t>(g * l.n_out + n)] = f32_to_f16(l.scales[from]);
      if (awq)
        put_nibble(a.zeros, g, l.n_out, n, zero);
      else
        put(a.zeros, g * l.n_out * p.bits / 32, 1, n, p.bits,
            (zero - (p.zeros_less_one ? 1 : 0)) & mask);
    }
  }
  return a;
}

}  // namespace hob
