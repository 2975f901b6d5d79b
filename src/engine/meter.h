#pragma once
// What a stretch of work cost: time, tokens, expert traffic.
#include <chrono>
#include <cstdint>

#include "engine/engine.h"

namespace hob {

struct Usage {
  int n_tok = 0;
  double seconds = 0;
  uint64_t hits = 0, misses = 0;
  uint64_t low_uses = 0;    // hits and misses of low-precision copies
  uint64_t bytes_read = 0;  // from disk
  double stall_seconds = 0;

  double tok_s() const { return seconds > 0 ? n_tok / seconds : 0; }
  // Share of expert uses that found the expert in memory; 1 for a model without experts.
  double hit_rate() const {
    return hits + misses ? static_cast<double>(hits) / static_cast<double>(hits + misses) : 1;
  }
  double bytes_per_tok() const { return n_tok ? static_cast<double>(bytes_read) / n_tok : 0; }
  double stall_share() const { return seconds > 0 ? stall_seconds / seconds : 0; }
  Usage& operator+=(const Usage& other);
};

// Starts counting on construction.
class Meter {
 public:
  explicit Meter(const Engine& engine);
  Usage stop(int n_tok) const;

 private:
  const Engine* engine_;
  std::chrono::steady_clock::time_point start_;
  ExpertCacheStats before_;
};

}  // namespace hob
