#include "quant/file_type.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace hob {
namespace {

constexpr FileType kFileTypes[] = {
    {"F32", 0, DType::kF32, 0},
    {"F16", 1, DType::kF16, 0},
    {"Q4_0", 2, DType::kQ4_0, 0},
    {"Q4_1", 3, DType::kQ4_1, 0},
    {"Q8_0", 7, DType::kQ8_0, 0},
    {"Q5_0", 8, DType::kQ5_0, 0},
    {"Q5_1", 9, DType::kQ5_1, 0},
    {"Q2_K", 10, DType::kQ2_K, 'M'},
    {"Q3_K_S", 11, DType::kQ3_K, 'S'},
    {"Q3_K_M", 12, DType::kQ3_K, 'M'},
    {"Q3_K_L", 13, DType::kQ3_K, 'L'},
    {"Q4_K_S", 14, DType::kQ4_K, 'S'},
    {"Q4_K_M", 15, DType::kQ4_K, 'M'},
    {"Q5_K_S", 16, DType::kQ5_K, 'S'},
    {"Q5_K_M", 17, DType::kQ5_K, 'M'},
    {"Q6_K", 18, DType::kQ6_K, 0},
    {"Q2_K_S", 21, DType::kQ2_K, 'S'},
    {"IQ4_NL", 25, DType::kIQ4_NL, 0},
    {"IQ4_XS", 30, DType::kIQ4_XS, 0},
    {"BF16", 32, DType::kBF16, 0},
    {"MXFP4_MOE", 38, DType::kMXFP4, 0, true},
};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

}  // namespace

std::span<const FileType> file_type_table() { return kFileTypes; }

const FileType& find_file_type(std::string_view name) {
  std::string wanted = upper(name);
  if (wanted == "Q3_K" || wanted == "Q4_K" || wanted == "Q5_K") wanted += "_M";
  if (wanted == "MXFP4") wanted = "MXFP4_MOE";
  std::string all;
  for (const FileType& type : kFileTypes) {
    if (type.name == wanted) return type;
    all += fmt::format("{}{}", all.empty() ? "" : " ", type.name);
  }
  fail(Code::kInvalidArgument, "[quantize] type: expected one of {}, got '{}'", all, name);
}

DType parse_tensor_type(std::string_view name) {
  const DTypeInfo* info = find_dtype(upper(name));
  if (info != nullptr && !is_internal(info->type)) return info->type;
  std::string all;
  for (const DTypeInfo& row : dtype_table()) {
    if (!is_internal(row.type)) all += fmt::format("{}{}", all.empty() ? "" : " ", row.name);
  }
  fail(Code::kInvalidArgument, "[quantize] tensor type: expected one of {}, got '{}'", all, name);
}

}  // namespace hob
