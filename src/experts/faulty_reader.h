#pragma once
// A reader whose reads fail at random: what a dying disk does, for soak tests. Ref: research notes,
// serving §5.2 (disk-fault injection).
#include <cstdint>
#include <memory>
#include <string>

#include "base/async_file.h"

namespace hob {

struct FaultPlan {
  double rate = 0;  // share of the reads that fail, 0 to 1
  uint64_t seed = 0;
};

// "RATE:SEED", as in 0.001:7. Error(kInvalidArgument) for anything else.
FaultPlan parse_fault_plan(const std::string& text);

// The same plan fails the same reads, by their order. A failed read never reaches the disk; it ends
// with Error(kIo) whose message says "injected".
std::unique_ptr<AsyncReader> make_faulty_reader(std::unique_ptr<AsyncReader> inner,
                                                const FaultPlan& plan);

}  // namespace hob
