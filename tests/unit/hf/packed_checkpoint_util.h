#pragma once
// A Mixtral of one layer whose linear layers are packed as by GPTQ, 4 bits in groups of 32.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "unit/hf/checkpoint_util.h"

namespace hob {

class PackedCheckpoint : public testing::Test {
 protected:
  static constexpr int64_t kWidth = 64, kGroups = 2, kVocab = 320, kExperts = 4;

  PackedCheckpoint();
  // [64, 64], random.
  void add_packed(const std::string& base);
  // The group of every input, so that groups stay equally large: neighbours are of different ones.
  void add_groups(const std::string& base, std::vector<int32_t> groups);
  std::vector<int32_t> shuffled_groups();
  // As GPTQ's act-order leaves them: q, k and v have one order, gate and up of an expert too.
  void shuffle_all();

  TestCheckpoint t;
  std::mt19937 rng{3};

 private:
  void add_floats(const std::string& name, const std::vector<int64_t>& shape, float mean,
                  float deviation);
};

}  // namespace hob
