#pragma once
// What users ask for: "Q4_K_M" is a mixture of types, with Q4_K for most tensors.
#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/dtype.h"

namespace hob {

struct FileType {
  std::string_view name;
  uint32_t id;                // general.file_type. Ref: research notes, serving §3.2
  DType base;                 // of the tensors that the mixture does not name
  char size;                  // 'S', 'M', 'L'; 0: the name has no mixture
  bool experts_only = false;  // MXFP4_MOE: all else is Q8_0
};

std::span<const FileType> file_type_table();
// In any case; "Q4_K" is "Q4_K_M", as everywhere. Throws Error(kInvalidArgument) with all names.
const FileType& find_file_type(std::string_view name);
// A tensor type by name, in any case; one that GGUF files have. Throws Error(kInvalidArgument).
DType parse_tensor_type(std::string_view name);

}  // namespace hob
