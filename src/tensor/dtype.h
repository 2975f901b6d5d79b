#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace hob {

// Numbers from here on are hob's own types: for low-precision copies in packs and for checkpoints
// that were quantised as transformers does it, never in a GGUF file.
inline constexpr uint32_t kFirstInternalType = 112;

// Element types, numbered as in GGUF files (`ggml_type`). Ref: research notes, serving §3.2.
enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
  // 2 and 3 bits for widths that are a multiple of 32 only (1408, 576, 96): GGUF has none.
  kQ2_1 = kFirstInternalType,
  kQ3_0,
  // Groups with a zero point, scale * (q - zero): GPTQ, AWQ, compressed-tensors, without loss.
  kG2,
  kG3,
  kG4,
  kG8,
};

struct DTypeInfo {
  DType type;
  std::string_view name;  // as users and files spell it: "Q4_K"
  int block;              // elements per block
  int block_bytes;        // bytes per block
  bool quantised() const { return block > 1; }
};

constexpr bool is_internal(DType type) { return static_cast<uint32_t>(type) >= kFirstInternalType; }

// Every supported type, one row each.
std::span<const DTypeInfo> dtype_table();
// nullptr when hob does not support `gguf_id`; an internal type is not for GGUF files, so its
// number gives nullptr too.
const DTypeInfo* find_dtype(uint32_t gguf_id);
// By name every type is found, internal ones too.
const DTypeInfo* find_dtype(std::string_view name);
const DTypeInfo& dtype_info(DType type);
// Name of any ggml type id, supported or not ("IQ2_XXS"), for error messages; "type 77" when
// unknown.
std::string_view gguf_type_name(uint32_t gguf_id);

// Bytes of one row of `n` elements; n must be a multiple of the block (checked).
size_t row_bytes(DType type, int64_t n);

}  // namespace hob
