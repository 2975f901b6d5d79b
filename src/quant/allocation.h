#pragma once
// Which type each tensor gets when all of them together may take so many bytes.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/dtype.h"

namespace hob {

struct TypeChoice {
  DType type = DType::kF32;
  uint64_t n_bytes = 0;
  double loss = 0;  // finite, >= 0; losses of several tensors add up
};

struct Allocation {
  std::vector<size_t> chosen;  // of each tensor's choices
  uint64_t n_bytes = 0;
  double loss = 0;
};

// The least bytes that any allocation takes.
uint64_t smallest_bytes(std::span<const std::vector<TypeChoice>> tensors);

// At most `budget` bytes (which must be >= smallest_bytes()) and little loss: every tensor starts
// with its smallest choice and climbs along the lower convex hull of (bytes, loss), the step with
// the largest gain per byte first; a step that does not fit ends its tensor's climb. Two facts
// (allocation_test.cc): the loss is above the least possible by less than the gain of the first
// step that did not fit, and a larger budget never gives a larger loss. Deterministic.
Allocation allocate_types(std::span<const std::vector<TypeChoice>> tensors, uint64_t budget);

}  // namespace hob
