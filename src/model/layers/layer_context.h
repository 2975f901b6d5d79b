#pragma once
// What every layer function gets: the same for all layers of a step.
#include <chrono>
#include <cstdint>

#include "backend/backend.h"
#include "model/layers/step.h"
#include "model/linear_observer.h"
#include "model/spec.h"
#include "model/work.h"

namespace hob {

struct LayerContext {
  const ModelSpec& spec;
  Backend& backend;
  StepRows& rows;
  const Activations& act;
  StageTimes& times;
  LinearObserver* observer = nullptr;  // null = none
};

// What a block has found joins the residual stream; normalised first where the family does so.
inline void add_block(const LayerContext& ctx, const float* post_norm) {
  const int n = ctx.rows.n();
  const Mat block = ctx.act.block(n), x = ctx.act.x(n);
  if (post_norm) ctx.backend.rms_norm(block, post_norm, ctx.spec.norm_eps, block);
  if (ctx.spec.residual_scale != 1.f)
    ctx.backend.add_scaled(block, ctx.spec.residual_scale, x);
  else
    ctx.backend.add(block, x);
}

inline uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

// Adds the time until the end of the scope.
class ScopedTime {
 public:
  explicit ScopedTime(uint64_t& into_ns) : into_ns_(into_ns), begin_ns_(now_ns()) {}
  ~ScopedTime() { into_ns_ += now_ns() - begin_ns_; }
  ScopedTime(const ScopedTime&) = delete;
  ScopedTime& operator=(const ScopedTime&) = delete;

 private:
  uint64_t& into_ns_;
  uint64_t begin_ns_;
};

}  // namespace hob
