#pragma once
// What steps cost and what they computed: time by stage, and counts from which bytes and
// multiply-adds follow (engine/roofline).
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace hob {

enum class Stage : uint8_t {
  kProjections,  // attention's norm, q k v, RoPE, output
  kAttention,    // scores and values over the KV cache
  kExperts,      // norm, router, routed experts
  kDenseFfn,     // dense FFN, shared expert
  kHead,         // final norm, logits
  kDiskWait,     // nothing to compute until an expert arrives
  kOther,        // embedding, bookkeeping
};
inline constexpr size_t kNStages = 7;

struct StageTimes {  // nanoseconds, engine thread
  std::array<uint64_t, kNStages> ns{};
  uint64_t& operator[](Stage s) { return ns[static_cast<size_t>(s)]; }
  uint64_t operator[](Stage s) const { return ns[static_cast<size_t>(s)]; }
  uint64_t total() const { return std::accumulate(ns.begin(), ns.end(), uint64_t{0}); }
};

// The `logit_` counts are those of the last layer, which only computes the rows that want logits
// once K and V are written.
struct WorkCounts {
  uint64_t n_steps = 0, n_logit_steps = 0;
  uint64_t n_rows = 0, n_logit_rows = 0;
  uint64_t n_visible = 0, n_logit_visible = 0;  // (row, position) pairs of attention
  uint64_t n_context = 0, n_logit_context = 0;  // positions whose K and V must move: every
                                                // sequence of a step once
  uint64_t n_choices = 0;                       // (row, layer, expert)
};

// A part of the resident weights, or one expert.
struct WeightGroup {
  uint64_t bytes = 0;
  uint64_t n_quantised = 0, n_float = 0;  // matrix elements: multiply-adds of one row
};

struct LayerWork {
  WeightGroup qkv, o, ffn, router, expert;
};

}  // namespace hob
