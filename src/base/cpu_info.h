#pragma once

namespace hob {

// What this CPU can run. What belongs to other architectures is false.
struct CpuFeatures {
  bool avx2_fma_f16c = false;
  bool avx512_vnni = false;   // F, BW, DQ, VL and VNNI
  bool neon_dotprod = false;  // sdot, optional from Armv8.2 on (NEON itself is part of aarch64)
};
CpuFeatures cpu_features();

// Cores that this process may use (affinity mask), at least 1.
int usable_cores();

}  // namespace hob
