#pragma once
// The rotation: keys and the tensors that scaling types other than linear and YaRN need.
#include <string>
#include <vector>

#include "hf/hf_family.h"

namespace hob {

void rope_keys(const HfFields& config, HfKeys& keys);
// How much of a head is rotated.
int64_t rotary_width(const HfFields& config);

// A tensor that is in no file.
struct HfComputed {
  std::string name;
  std::vector<float> values;
};
// Llama 3: rope_freqs.weight; long context (Phi): rope_factors_long.weight and ..._short.
std::vector<HfComputed> rope_tensors(const HfFields& config);

}  // namespace hob
