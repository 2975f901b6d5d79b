#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "hf/hf_checkpoint.h"

namespace hob {

// Writes the checkpoint as one GGUF file, piece by piece: a file larger than memory is no problem.
// It appears under its name when it is complete. `progress` may throw to stop.
void write_gguf(const HfCheckpoint& checkpoint, const std::string& path,
                const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& progress);

}  // namespace hob
