#pragma once
// Decides by measurement whether prefetching pays, step by step. Reading ahead costs bandwidth when
// guesses are wrong and may delay what is certain; whether it pays depends on disk, cache and text,
// so no rule set in advance is right.
#include <cstdint>

namespace hob {

enum class PrefetchMode : uint8_t { kOff, kOn, kAuto };

// Pure: the caller brings the times. Steps come in blocks. Auto starts without, then makes a trial (off,
// on, on, off), then keeps what was faster and tries the other in one block of kRetry. Only neighbouring
// blocks are compared, in both orders: a cache that fills, or a text that changes, drifts slower
// than that and cancels out.
class PrefetchGovernor {
 public:
  explicit PrefetchGovernor(PrefetchMode mode) : mode_(mode) {}

  bool enabled() const { return mode_ != PrefetchMode::kOff; }
  bool on() const;  // for the step that comes next
  // What the step took that on() was asked for, per row.
  void record(double seconds);

  // Time without / time with prefetch by the measurements so far; 1 = unknown.
  double gain() const;
  bool wins() const { return gain() > 1 + kMargin; }
  uint64_t n_steps_on() const { return n_steps_on_; }

  static constexpr int kBlock = 16;
  // The first steps after a change suffer from what guesses have evicted in the block before, or
  // live on what they have read. Counted from step 2 on, a prefetch on a saturated disk seemed to
  // gain 10 to 20 % (docs/hobbit.md) while it lost 2: the steps without it paid for its evictions.
  static constexpr int kUncounted = 8;
  // A cache that fills drowns everything else; and a short answer should not pay for a trial.
  static constexpr int kWarmBlocks = 8;
  static constexpr int kTrialBlocks = 4;
  // A losing prefetch in one block of 32 costs 3 % only when it loses 96 %.
  static constexpr int kRetry = 32;
  static constexpr double kMargin = 0.05;  // what a block's gain still owes to the blocks beside it

 private:
  bool on_in_block(int64_t block) const;
  void end_block(bool was_on, double seconds);

  PrefetchMode mode_;
  int64_t step_ = 0;
  uint64_t n_steps_on_ = 0;
  double block_seconds_ = 0;
  double last_seconds_ = 0;  // of the block before; 0 = there was none
  bool last_on_ = false;
  double log_gain_ = 0;  // decayed mean over pairs of blocks of ln(off / on)
  int n_pairs_ = 0;
};

}  // namespace hob
