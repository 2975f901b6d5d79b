#pragma once
// Replays recorded routing through the simulated cache. Ref: research notes, hobbit.md §1.3
// (semantics of mixed precision), §4.1 (time).
#include <optional>
#include <string>
#include <vector>

#include "engine/cache_sim.h"
#include "engine/route_trace.h"

namespace hob {

// What comes before the decode tokens that are counted.
enum class Warmup : uint8_t {
  kChunk,   // the prompt as one step, as the engine does: the union of its experts once per layer
  kTokens,  // the prompt token by token
  kNone,    // an empty cache at the first decode token
};

struct ReplayOptions {
  PrecisionMode mode = PrecisionMode::kExact;
  // Thresholds; without them the quantiles q1, q2 of the scores of the
  // trace's decode tokens.
  std::optional<Thresholds> thresholds;
  double q1 = 0.67, q2 = 0.97;
  double low_ratio = 0.58;
  uint64_t expert_bytes = 0;  // of every expert, whatever the trace says; 0 = the trace's
  Warmup warmup = Warmup::kChunk;
};

// A trace in the form that the cache sees: demands in order, with what each row wants. Independent
// of policy and size, so it is built once.
struct Replay {
  struct Demand {
    int layer = 0;
    int64_t step = 0;
    bool counted = false;  // a decode token
    bool starts_sequence = false;
    uint32_t first = 0, n = 0;  // of uses
  };
  SimShape shape;
  Thresholds thresholds;
  std::vector<Demand> demands;
  std::vector<SimUse> uses;
  int64_t n_decode_tok = 0;
  uint64_t bytes_per_tok = 0;  // high copies that a decode token uses
};

// Throws Error(kInvalidArgument) when the turns differ in shape or say nothing about bytes.
Replay make_replay(const std::vector<RouteTrace>& turns, const ReplayOptions& options);

struct Disk {
  double bytes_per_s = 2e9, latency_s = 100e-6;  // of a batch of reads
};

struct SimJob {
  std::string policy;  // a spec of make_policy, or "belady"
  SimBudget budget;
  Disk disk;
};

// Sums over the counted demands.
SimCounts simulate(const Replay& replay, const SimJob& job);

}  // namespace hob
