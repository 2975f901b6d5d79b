#pragma once
// What calibrations share: a text through a model while somebody looks on.
#include <functional>
#include <span>
#include <vector>

#include "engine/model_session.h"
#include "model/expert_observer.h"

namespace hob {

// Rows of logits that the session's steps must allow (SessionOptions::max_logit_rows): the last
// layer computes only rows whose logits are wanted, and a calibration wants to see them all.
inline constexpr int kCalibrationRows = 256;

// The text in windows of the session's context length, with these observers (borrowed, may be null)
// until it returns or throws. progress(tokens done, in all) may throw to stop. Throws what a failed
// read of an expert throws: a gap in what was seen would go unnoticed.
void run_observed(ModelSession& session, std::span<const int32_t> tokens, LinearObserver* on_linear,
                  ExpertObserver* on_experts,
                  const std::function<void(uint64_t, uint64_t)>& progress);

// What the matrices of a gated FFN multiply. The hidden vectors stay inside the backend, so they
// are computed once more, by the plain versions of the kernels' functions (kernels/gated_unit.h).
class FfnInputs {
 public:
  FfnInputs(Backend& backend, GatedUnit unit) : backend_(backend), unit_(unit) {}

  struct Pair {
    Mat in;      // [group's rows, d_model]: of gate and up
    Mat hidden;  // [group's rows, d_ff]: of down
  };
  // Valid until the next call. `x` holds the rows that the group names.
  Pair of(const ExpertGroup& group, Mat x);

 private:
  Backend& backend_;
  GatedUnit unit_;
  std::vector<float> input_, gate_, up_;
};

}  // namespace hob
