#pragma once
// Quantised linear layers of Hugging Face checkpoints, as hob's group types: the same codes, zero
// points and scales in another order, without loss. Ref: research notes, serving §3.7.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "hf/safetensors.h"
#include "tensor/dtype.h"

namespace hob {

enum class HfPackMethod : uint8_t { kGptq, kAwq, kCompressedTensors };

// How config.json says that the checkpoint's linear layers are packed.
struct HfPacking {
  HfPackMethod method = HfPackMethod::kGptq;
  int bits = 4;                // 2, 3, 4 or 8
  int64_t group = 128;         // inputs that share a scale; kWholeRow: all
  bool zeros_less_one = true;  // GPTQ's first format stores zero - 1
  bool has_zeros = true;       // compressed-tensors: not when it is symmetric

  static constexpr int64_t kWholeRow = -1;
  int64_t group_of(int64_t n_in) const { return group == kWholeRow ? n_in : group; }
};

// The type that holds such codes: kG2, kG3, kG4 or kG8.
DType packed_type(const HfPacking& packing);

// The arrays of one linear layer, y = x W^T with W [n_out, n_in], as the files have them:
//   GPTQ   codes i32 [n_in * bits / 32, n_out], zeros i32 [n_groups, n_out * bits / 32],
//          scales f16 [n_groups, n_out], groups i32 [n_in] or none
//   AWQ    codes i32 [n_in, n_out / 8], zeros i32 [n_groups, n_out / 8],
//          scales f16 [n_groups, n_out]
//   compressed-tensors
//          codes i32 [n_out, n_in * bits / 32], zeros i32 [n_out * bits / 32, n_groups],
//          scales [n_out, n_groups], groups i32 [n_in] or none
struct PackedLinear {
  HfPacking packing;
  std::string_view name;  // for errors
  int64_t n_out = 0, n_in = 0;
  std::span<const std::byte> codes, zeros, scales, groups;  // any alignment
  SafeType scale_type = SafeType::kF16;
};

struct PackedShapes {
  std::vector<int64_t> codes, zeros, scales;
};
PackedShapes packed_shapes(const HfPacking& packing, int64_t n_out, int64_t n_in);

// GPTQ's "act-order" quantises inputs in another order than theirs, and then neighbours do not
// share a scale. Input i of the blocks is input order[i] of the layer, group after group, within a
// group as they are; empty: the groups are in order. Throws Error for groups out of range.
std::vector<int32_t> input_order(const PackedLinear& linear);

// Rows of packed_type(), n_out of them, with inputs in input_order(). Throws Error naming the layer
// for scales that are no finite f16 numbers, groups out of range, and (kUnimplemented) groups that
// are no whole blocks.
void unpack_rows(const PackedLinear& linear, std::byte* dst);
// The same, slowly: code by code.
void unpack_rows_plain(const PackedLinear& linear, std::byte* dst);
// The weights themselves, [n_out, n_in], inputs as the layer has them: scale * (code - zero), exact
// for f16 and bf16 scales, in f32 rounding for f32 ones.
void unpack_floats(const PackedLinear& linear, float* dst);

// The way back, for GPTQ and AWQ: scales[n, g] * (codes[n, k] - zeros[n, g]), groups in order.
struct LinearCodes {
  int64_t n_out = 0, n_in = 0;
  std::span<const uint8_t> codes;  // [n_out, n_in]
  std::span<const uint8_t> zeros;  // [n_out, n_groups]
  std::span<const float> scales;   // [n_out, n_groups], rounded to f16
};
struct PackedArrays {
  std::vector<uint32_t> codes, zeros;
  std::vector<uint16_t> scales;
};
PackedArrays pack_rows(const HfPacking& packing, const LinearCodes& linear);

}  // namespace hob
