#pragma once
// How fast this machine's cores can multiply at most: the yardstick of `hob bench` and
// bench_kernels.
#include <string_view>

namespace hob {

struct ComputePeaks {
  double dot_macs_per_s = 0;  // 8-bit multiply-adds, the instruction of the quantised products
  double fma_macs_per_s = 0;  // f32 multiply-adds
};

// All threads together, about 0.1 s. `isa`: a kernel table's name (Backend::isa()).
ComputePeaks measure_compute_peaks(std::string_view isa, int n_threads);

}  // namespace hob
