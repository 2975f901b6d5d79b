#include "tensor/dtype.h"

#include <fmt/format.h>

#include <array>
#include <limits>

#include "base/error.h"

namespace hob {
namespace {

// Ref: research notes, serving §3.2 (sizes checked against ggml).
constexpr std::array kTable = {
    DTypeInfo{DType::kF32, "F32", 1, 4},         DTypeInfo{DType::kF16, "F16", 1, 2},
    DTypeInfo{DType::kQ4_0, "Q4_0", 32, 18},     DTypeInfo{DType::kQ4_1, "Q4_1", 32, 20},
    DTypeInfo{DType::kQ5_0, "Q5_0", 32, 22},     DTypeInfo{DType::kQ5_1, "Q5_1", 32, 24},
    DTypeInfo{DType::kQ8_0, "Q8_0", 32, 34},     DTypeInfo{DType::kQ2_K, "Q2_K", 256, 84},
    DTypeInfo{DType::kQ3_K, "Q3_K", 256, 110},   DTypeInfo{DType::kQ4_K, "Q4_K", 256, 144},
    DTypeInfo{DType::kQ5_K, "Q5_K", 256, 176},   DTypeInfo{DType::kQ6_K, "Q6_K", 256, 210},
    DTypeInfo{DType::kIQ4_NL, "IQ4_NL", 32, 18}, DTypeInfo{DType::kIQ4_XS, "IQ4_XS", 256, 136},
    DTypeInfo{DType::kBF16, "BF16", 1, 2},       DTypeInfo{DType::kMXFP4, "MXFP4", 32, 17},
    DTypeInfo{DType::kQ2_1, "Q2_1", 32, 12},     DTypeInfo{DType::kQ3_0, "Q3_0", 32, 14},
    DTypeInfo{DType::kG2, "G2", 32, 11},         DTypeInfo{DType::kG3, "G3", 32, 15},
    DTypeInfo{DType::kG4, "G4", 32, 19},         DTypeInfo{DType::kG8, "G8", 32, 35},
};

// Names of all ids that ggml has ever used; a file with a type that hob cannot read deserves its
// name.
constexpr std::array<std::string_view, 43> kGgmlNames = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0",
    "Q2_0",
};
static_assert(kGgmlNames[39] == "MXFP4" && kGgmlNames[42] == "Q2_0");

const DTypeInfo* find_row(DType type) {
  for (const DTypeInfo& row : kTable) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

}  // namespace

std::span<const DTypeInfo> dtype_table() { return kTable; }

const DTypeInfo* find_dtype(uint32_t gguf_id) {
  return gguf_id < kFirstInternalType ? find_row(static_cast<DType>(gguf_id)) : nullptr;
}

const DTypeInfo* find_dtype(std::string_view name) {
  for (const DTypeInfo& row : kTable) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

const DTypeInfo& dtype_info(DType type) {
  const DTypeInfo* row = find_row(type);
  HOB_CHECK(row != nullptr);
  return *row;
}

std::string_view gguf_type_name(uint32_t gguf_id) {
  if (gguf_id < kGgmlNames.size()) return kGgmlNames[gguf_id];
  // Valid until this thread asks for another unknown id.
  thread_local std::array<char, 16> unknown;
  const auto end = fmt::format_to_n(unknown.data(), unknown.size(), "type {}", gguf_id).out;
  return {unknown.data(), static_cast<size_t>(end - unknown.data())};
}

size_t row_bytes(DType type, int64_t n) {
  const DTypeInfo& info = dtype_info(type);
  HOB_CHECK(n >= 0 && n % info.block == 0);
  const int64_t n_blocks = n / info.block;
  HOB_CHECK(n_blocks <= std::numeric_limits<int64_t>::max() / info.block_bytes);
  return static_cast<size_t>(n_blocks) * static_cast<size_t>(info.block_bytes);
}

}  // namespace hob
