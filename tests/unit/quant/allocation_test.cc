#include "quant/allocation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

namespace hob {
namespace {

using Tensors = std::vector<std::vector<TypeChoice>>;

// Choices whose loss falls about fourfold per bit, as real ones do, with some that are worse than
// smaller ones.
Tensors random_tensors(uint64_t seed, size_t n_tensors, size_t n_choices) {
  std::mt19937_64 source(seed);
  const auto next = [&](uint64_t n) { return source() % n; };
  Tensors tensors(n_tensors);
  for (std::vector<TypeChoice>& choices : tensors) {
    const uint64_t size = 1 + next(40);
    const double weight = static_cast<double>(1 + next(1000));
    for (size_t i = 0; i < n_choices; i++) {
      const uint64_t bits = 2 + next(8);
      const double noise = 0.5 + static_cast<double>(next(1000)) / 1000;
      choices.push_back({DType::kF32, size * bits,
                         weight * noise / static_cast<double>(uint64_t{1} << 2 * bits)});
    }
  }
  return tensors;
}

double best_loss(const Tensors& tensors, uint64_t budget, size_t first = 0) {
  if (first == tensors.size()) return 0;
  double best = std::numeric_limits<double>::infinity();
  for (const TypeChoice& c : tensors[first])
    if (c.n_bytes <= budget)
      best = std::min(best, c.loss + best_loss(tensors, budget - c.n_bytes, first + 1));
  return best;
}

uint64_t largest_bytes(const Tensors& tensors) {
  uint64_t total = 0;
  for (const auto& choices : tensors)
    total += std::max_element(choices.begin(), choices.end(), [](const auto& a, const auto& b) {
               return a.n_bytes < b.n_bytes;
             })->n_bytes;
  return total;
}

TEST(Allocation, NearTheBestOfAll) {
  double all_best = 0, all_found = 0;
  for (uint64_t seed = 1; seed <= 200; seed++) {
    const Tensors tensors = random_tensors(seed, 6, 5);
    const uint64_t least = smallest_bytes(tensors), most = largest_bytes(tensors);
    for (int step = 0; step <= 4; step++) {
      const uint64_t budget = least + (most - least) * static_cast<uint64_t>(step) / 4;
      const Allocation a = allocate_types(tensors, budget);
      EXPECT_LE(a.n_bytes, budget);
      uint64_t n_bytes = 0;
      double loss = 0;
      for (size_t t = 0; t < tensors.size(); t++) {
        n_bytes += tensors[t][a.chosen[t]].n_bytes;
        loss += tensors[t][a.chosen[t]].loss;
      }
      EXPECT_EQ(n_bytes, a.n_bytes);
      EXPECT_DOUBLE_EQ(loss, a.loss);
      const double best = best_loss(tensors, budget);
      EXPECT_GE(a.loss, best * (1 - 1e-12));
      if (step == 4) {
        EXPECT_NEAR(a.loss, best, 1e-9 * best);
      }
      all_best += best;
      all_found += a.loss;
    }
  }
  // With many tensors there is next to no gap; with six, one that does not fit is a large part.
  EXPECT_LT(all_found, 1.05 * all_best);
}

TEST(Allocation, MoreBytesNeverLoseMore) {
  for (uint64_t seed = 1; seed <= 12; seed++) {
    const Tensors tensors = random_tensors(seed, 12, 7);
    double before = std::numeric_limits<double>::infinity();
    for (uint64_t budget = smallest_bytes(tensors); budget <= largest_bytes(tensors); budget++) {
      const Allocation a = allocate_types(tensors, budget);
      ASSERT_LE(a.loss, before * (1 + 1e-12)) << "seed " << seed << ", budget " << budget;
      before = a.loss;
    }
  }
}

TEST(Allocation, ASmallTensorThatMattersComesFirst) {
  const Tensors tensors = {{{DType::kQ4_0, 100, 1.0}, {DType::kQ8_0, 200, 0.1}},
                           {{DType::kQ4_0, 10, 1.0}, {DType::kQ8_0, 20, 0.1}},
                           // Larger and worse: nobody may take it.
                           {{DType::kQ4_0, 10, 1.0}, {DType::kQ5_0, 11, 2.0}}};
  EXPECT_EQ(allocate_types(tensors, 120).chosen, (std::vector<size_t>{0, 0, 0}));
  EXPECT_EQ(allocate_types(tensors, 130).chosen, (std::vector<size_t>{0, 1, 0}));
  EXPECT_EQ(allocate_types(tensors, 1000).chosen, (std::vector<size_t>{1, 1, 0}));
}

}  // namespace
}  // namespace hob
