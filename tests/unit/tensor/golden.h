#pragma once
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace hob {

struct Golden {
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

// `name`.bin as tools/make_dequant_golden.py writes it; HOB_DEQUANT_GOLDEN names a folder with more
// blocks.
inline Golden read_golden(const std::string& name) {
  const char* folder = std::getenv("HOB_DEQUANT_GOLDEN");
  const std::string path =
      std::string(folder ? folder : HOB_TEST_DATA "/gguf") + "/" + name + ".bin";
  std::ifstream file(path, std::ios::binary);
  uint32_t header[2] = {0, 0};
  file.read(reinterpret_cast<char*>(header), sizeof header);
  Golden golden{std::vector<std::byte>(header[1]), std::vector<float>(header[0])};
  file.read(reinterpret_cast<char*>(golden.blocks.data()), header[1]);
  file.read(reinterpret_cast<char*>(golden.values.data()), std::streamsize{4} * header[0]);
  EXPECT_TRUE(file.good() && !golden.values.empty()) << path;
  return golden;
}

}  // namespace hob
