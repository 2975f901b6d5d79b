#pragma once
// Measures this machine for a minute fraction of a second each: what memory, disk and the kernels
// give.
#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "experts/expert_cache.h"

namespace hob {

// Working memory of one probe. 96 MiB is three times a large desktop's last-level cache, so that
// every product reads memory; a small budget gets a quarter of itself, and figures that the cache
// may flatter.
size_t probe_pool_bytes(uint64_t budget_bytes);

// Bytes per second that n_threads read from memory together, at best; about 0.2 s.
// stream_pool_bytes: the memory to read for that, from the budget (0 = none).
size_t stream_pool_bytes(uint64_t budget_bytes);
double measure_ram_bandwidth(int n_threads, size_t pool_bytes);

struct DiskProbe {
  double bytes_per_s = 0;
  bool direct = false;  // past the page cache; else the figure may be the cache's
};
// Random reads of the size of one expert's matrices at the loader's depth, from the model's own
// files, about 0.6 s (median of three windows).
DiskProbe measure_disk_bandwidth(const ExpertGeometry& geometry, const ExpertCacheOptions& options);

struct ProductRate {
  double decode_bytes_per_s = 0;  // prepared weight bytes per second, one row
  double prefill_macs_per_s = 0;  // multiply-adds per second, `rows` rows
};
// Products x * W^T with W [rows, cols] of `dtype`, over a pool of matrices larger than the caches.
struct LinearProbe {
  DType dtype = DType::kF32;
  int d_out = 1, d_in = 1;
  int chunk = 1;
};
ProductRate measure_linear(Backend& backend, const LinearProbe& probe, size_t pool_bytes);
// One expert's FFN in the layer's own shapes: decode with k experts of one row each, prefill with
// the rows that a chunk gives each expert.
struct ExpertProbe {
  int k = 1;
  int rows_per_expert = 1;  // in a chunk
};
ProductRate measure_experts(Backend& backend, const ExpertLayer& layer, const ExpertProbe& probe,
                            size_t pool_bytes);
// Seconds that the backend's small operations of one layer take for one row (norms, RoPE,
// residuals, router).
double measure_layer_overhead(Backend& backend, int d_model, int n_experts, int top_k);

}  // namespace hob
