#pragma once
// Sizes: how the three matrices of an expert lie in its slot, and what that costs.
#include <array>
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "experts/expert_store.h"

namespace hob {

// Physical memory comes in pages: an expert is charged whole ones, or the budget would not be a
// promise.
inline constexpr uint64_t kPageBytes = 4096;

struct ExpertLayout {
  std::array<uint64_t, 3> offset{};  // of each part in the slot, multiples of 64
  uint64_t n_bytes = 0;              // whole pages; 0 = the layer has no experts
};

// The experts in that precision: empty when the geometry has no low copies.
const std::vector<ExpertLayer>& layers_of(const ExpertGeometry& geometry, Precision precision);
// One entry per layer.
std::vector<ExpertLayout> make_layouts(const ExpertGeometry& geometry, const Backend& backend,
                                       Precision precision = Precision::kHigh);

struct ExpertSizes {
  uint64_t largest = 0, smallest = 0, total = 0;
  int n_experts = 0;
};
ExpertSizes measure(const std::vector<ExpertLayer>& layers,
                    const std::vector<ExpertLayout>& layouts);

// How many experts can be resident at once in `budget_bytes`: the smallest ones first.
int max_resident(const std::vector<ExpertLayer>& layers, const std::vector<ExpertLayout>& layouts,
                 uint64_t budget_bytes);

StagingNeeds staging_needs(const ExpertGeometry& geometry);

}  // namespace hob
