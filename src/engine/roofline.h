#pragma once
// Work against what the machine can do at most: bytes that had to move and multiply-adds that had
// to be done, by stage, from shapes and counts alone. Pure. Ref: Williams, Waterman, Patterson,
// "Roofline", CACM 2009.
#include <array>
#include <cstdint>
#include <vector>

#include "model/decoder.h"

namespace hob {

// Measured on this machine with the threads that the steps use.
struct MachinePeaks {
  double ram_bytes_per_s = 0;
  double dot_macs_per_s = 0;    // 8-bit integer multiply-adds
  double fma_macs_per_s = 0;    // f32 multiply-adds
  double disk_bytes_per_s = 0;  // 0 = nothing streams
};

struct StageWork {
  double bytes = 0;     // weights and K/V, each once per step
  double dot_macs = 0;  // products with quantised weights
  double fma_macs = 0;  // products with float weights, attention
};
using Work = std::array<StageWork, kNStages>;  // indexed by Stage

// Distinct (step, layer, expert): the cache's hits + misses. The rest of `n` are high copies.
struct ExpertUses {
  uint64_t n = 0, n_low = 0;
};
Work work_of(const ModelLayout& layout, KvType kv, const WorkCounts& counts,
             const ExpertUses& uses);

struct StageRate {
  double time_share = 0;
  double bytes_per_s = 0, ops_per_s = 0;  // a multiply-add is two operations
  double ram_share = 0;                   // of the peak
  double compute_share = 0;  // the time that the multiply-adds would take at their peaks / the time
};
struct Roofline {
  StageRate total;
  std::array<StageRate, kNStages> stages;
};
// `seconds`: all of the run; what no stage accounts for is kOther's.
Roofline roofline(const Work& work, const StageTimes& times, double seconds,
                  const MachinePeaks& peaks);

const char* stage_name(Stage stage);

}  // namespace hob
