#pragma once
#include <cstdint>
#include <string>

namespace hob {

// The whole of a text file. Throws Error(kNotFound | kIo), and kDataLoss above `max_bytes`.
std::string read_small_file(const std::string& path, uint64_t max_bytes);

}  // namespace hob
