#pragma once
#include <span>
#include <string>
#include <vector>

namespace hob {

// What this CPU can run. What belongs to other architectures is false.
struct CpuFeatures {
  bool avx2_fma_f16c = false;
  bool avx512_vnni = false;   // F, BW, DQ, VL and VNNI
  bool neon_dotprod = false;  // sdot, optional from Armv8.2 on (NEON itself is part of aarch64)
};
CpuFeatures cpu_features();

struct Core {
  int id = 0;
  int capacity = 1024;  // relative speed; 1024 = the fastest of this machine
};

// `ids` with their capacities from `sysfs`/cpu<id>/cpu_capacity (big.LITTLE has these files;
// without one a core counts as a fast one), fastest first, then by id.
std::vector<Core> read_cores(std::span<const int> ids, const std::string& sysfs);
// How many of `cores` to compute with when nobody says: all that have at least a third of the
// fastest one's capacity. Slower ones would hold up the end of every product more than they add.
int performance_cores(std::span<const Core> cores);

// The cores that the calling thread may use (affinity mask), fastest first.
std::vector<Core> usable_cores();
// Of these, performance_cores(), at least 1.
int default_threads();

}  // namespace hob
