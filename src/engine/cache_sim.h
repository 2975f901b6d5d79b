#pragma once
// The expert cache without experts: byte budgets, pins and evictions as in experts/expert_cache,
// the policies' own code, no I/O. Every simulation in hob runs through this one.
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "experts/importance.h"
#include "experts/policy.h"

namespace hob {

struct SimShape {
  int n_layers = 0, n_experts = 0;     // experts of a layer
  std::vector<uint64_t> expert_bytes;  // [n_layers] of a high copy; 0 = the layer has no experts
  double low_ratio = 0.58;             // bytes of a low copy / bytes of a high one

  uint64_t copy_bytes(int layer, Precision p) const;
  uint64_t total_bytes() const;  // of all high copies
  PolicyShape policy_shape(uint64_t high_bytes) const;
};

struct SimBudget {
  uint64_t high_bytes = 0;
  uint64_t low_bytes = 0;  // 0: low copies pass through a scratch ring and are not kept
};

// One expert of a demand.
struct SimUse {
  int32_t expert = 0;  // of the layer
  Want want = Want::kHigh;
  int32_t n_rows = 1;  // that chose it
  float mass = 0;      // sum of their normalised gate weights
};

struct SimCounts {
  int64_t hits_high = 0, hits_low = 0, loads_high = 0, loads_low = 0, skips = 0;  // distinct uses
  uint64_t bytes = 0;                                                             // loaded
  int64_t rows_high = 0, rows_low = 0, rows_skipped = 0;  // (row, expert) choices
  double mass_high = 0, mass_low = 0, mass_skipped = 0;   // gate weight
  double stall_s = 0;                                     // reading, nothing overlapped

  int64_t uses() const { return hits_high + hits_low + loads_high + loads_low + skips; }
  int64_t hits() const { return hits_high + hits_low; }
  double hit_rate() const {
    const int64_t n = uses() - skips;
    return n ? static_cast<double>(hits()) / static_cast<double>(n) : 1;
  }
  // HOBBIT's miss penalty: a high miss costs 1, a low one its share of the bytes.
  double penalty(double low_ratio) const {
    return static_cast<double>(loads_high) + low_ratio * static_cast<double>(loads_low);
  }
  SimCounts& operator+=(const SimCounts& other);
};

class CacheSim {
 public:
  CacheSim(const SimShape& shape, const SimBudget& budget, std::unique_ptr<ExpertPolicy> policy);

  void start_sequence() { policy_->on_sequence_start(); }
  // The distinct experts of one layer in one step. Cached high serves everything, cached low
  // whatever does not want high; the rest is loaded, or skipped if nobody wants it more.
  SimCounts demand(int layer, std::span<const SimUse> uses, int64_t step);

  uint64_t used_bytes(Precision p) const { return pools_[static_cast<size_t>(p)].used; }
  bool cached(int layer, int expert, Precision p) const {
    return resident_[copy_id(layer, expert, p)];
  }

 private:
  struct Pool {
    uint64_t budget = 0, used = 0;
  };
  size_t copy_id(int layer, int expert, Precision p) const;
  void pin(int copy);
  void release_pins();
  void load(int layer, int expert, Precision p, int64_t step);

  const SimShape shape_;
  std::unique_ptr<ExpertPolicy> policy_;
  Pool pools_[2];                  // [precision]
  std::vector<uint8_t> resident_;  // [copy]
  std::vector<int> pinned_;        // copies that the present demand holds
  std::vector<SimUse> missing_;
};

}  // namespace hob
