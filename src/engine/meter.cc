#include "engine/meter.h"

namespace hob {

Usage& Usage::operator+=(const Usage& other) {
  n_tok += other.n_tok;
  seconds += other.seconds;
  hits += other.hits;
  misses += other.misses;
  low_uses += other.low_uses;
  bytes_read += other.bytes_read;
  stall_seconds += other.stall_seconds;
  return *this;
}

Meter::Meter(const Engine& engine)
    : engine_(&engine), start_(std::chrono::steady_clock::now()), before_(engine.expert_stats()) {}

Usage Meter::stop(int n_tok) const {
  const ExpertCacheStats after = engine_->expert_stats();
  return {
      .n_tok = n_tok,
      .seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(),
      .hits = after.hits - before_.hits,
      .misses = after.misses - before_.misses,
      .low_uses = after.low_hits + after.low_misses - before_.low_hits - before_.low_misses,
      .bytes_read = after.bytes_read - before_.bytes_read,
      .stall_seconds = static_cast<double>(after.stall_ns - before_.stall_ns) * 1e-9};
}

}  // namespace hob
