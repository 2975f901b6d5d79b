#include "model/prefetch_governor.h"

namespace hob {
namespace {

// Weight of a new measurement: about the last 8 count.
constexpr double kWeight = 0.125;

}  // namespace

bool PrefetchGovernor::on() const {
  if (mode_ != PrefetchMode::kAuto) return mode_ == PrefetchMode::kOn;
  const int64_t block = step_ / kBlock;
  if (block < kTrialBlocks) return block % 2 == 1;
  const bool retry = block % kRetry == 0;
  return wins() != retry;
}

void PrefetchGovernor::record(double seconds) {
  const bool was_on = on();
  n_steps_on_ += was_on;
  // The first step of a block inherits the other block's reads.
  if (mode_ != PrefetchMode::kAuto || step_ % kBlock != 0) {
    double& mean = mean_[was_on];
    mean = mean > 0 ? mean + kWeight * (seconds - mean) : seconds;
  }
  step_++;
}

double PrefetchGovernor::gain() const {
  return mean_[0] > 0 && mean_[1] > 0 ? mean_[0] / mean_[1] : 1;
}

}  // namespace hob
