#pragma once

namespace hob {

// What this CPU can run. All false on other architectures.
struct CpuFeatures {
  bool avx2_fma_f16c = false;
  bool avx512_vnni = false;  // F, BW, DQ, VL and VNNI
};
CpuFeatures cpu_features();

// Cores that this process may use (affinity mask), at least 1.
int usable_cores();

}  // namespace hob
