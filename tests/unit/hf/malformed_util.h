#pragma once
#include <string>
#include <vector>

#include "base/error.h"

namespace hob {

struct MalformedSafetensors {
  std::string name;
  std::string bytes;
  Code code;
  std::string message;  // part of it
};
std::vector<MalformedSafetensors> malformed_safetensors();
// A small file with several types, a scalar and a tensor without elements.
std::string valid_safetensors();

}  // namespace hob
