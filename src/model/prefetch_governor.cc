#include "model/prefetch_governor.h"

#include <algorithm>
#include <cmath>

namespace hob {
namespace {

// Weight of a new pair of blocks, once there are a few: about the last 5 count.
constexpr double kWeight = 0.2;

}  // namespace

bool PrefetchGovernor::on_in_block(int64_t block) const {
  if (mode_ != PrefetchMode::kAuto) return mode_ == PrefetchMode::kOn;
  block -= kWarmBlocks;
  if (block < kTrialBlocks) return block == 1 || block == 2;
  const bool retry = block % kRetry == 0;
  return wins() != retry;
}

bool PrefetchGovernor::on() const { return on_in_block(step_ / kBlock); }

void PrefetchGovernor::record(double seconds) {
  const bool was_on = on();
  n_steps_on_ += was_on;
  if (step_ % kBlock >= kUncounted) block_seconds_ += seconds;
  step_++;
  if (step_ % kBlock != 0) return;
  end_block(was_on, block_seconds_);
  block_seconds_ = 0;
}

void PrefetchGovernor::end_block(bool was_on, double seconds) {
  if (last_seconds_ > 0 && seconds > 0 && last_on_ != was_on) {
    const double off = was_on ? last_seconds_ : seconds, on = was_on ? seconds : last_seconds_;
    n_pairs_++;
    log_gain_ += std::max(kWeight, 1.0 / n_pairs_) * (std::log(off / on) - log_gain_);
  }
  last_seconds_ = seconds;
  last_on_ = was_on;
}

double PrefetchGovernor::gain() const { return std::exp(log_gain_); }

}  // namespace hob
