#include "engine/calibration.h"

#include "engine/observed_run.h"

namespace hob {
namespace {

class Collector : public ExpertObserver {
 public:
  Collector(FfnInputs inputs, ExpertInputStats& stats)
      : inputs_(std::move(inputs)), stats_(stats) {}

  void saw(ExpertKey key, const ExpertGroup& group, Mat x) override {
    const FfnInputs::Pair p = inputs_.of(group, x);
    stats_.add(key, p.in, p.hidden);
  }

 private:
  FfnInputs inputs_;
  ExpertInputStats& stats_;
};

}  // namespace

ExpertInputStats calibrate(ModelSession& session, std::span<const int32_t> tokens,
                           const std::function<void(uint64_t, uint64_t)>& progress) {
  ExpertInputStats stats(session.layout().experts);
  Collector collector({session.backend(), session.layout().spec.ffn_unit}, stats);
  run_observed(session, tokens, nullptr, &collector, progress);
  return stats;
}

}  // namespace hob
