#pragma once
// Runs a text through a model and measures what goes into its experts.
#include <functional>
#include <span>

#include "engine/model_session.h"
#include "experts/expert_input_stats.h"

namespace hob {

// Rows of logits that the session's steps must allow (SessionOptions::max_logit_rows): the last
// layer computes only rows whose logits are wanted, so calibration asks for all.
inline constexpr int kCalibrationRows = 256;

// The text is cut into windows of the session's context length. progress(tokens done, in all); it
// may throw to stop. Throws what a failed read of an expert throws: a gap in the statistics would
// go unnoticed.
ExpertInputStats calibrate(ModelSession& session, std::span<const int32_t> tokens,
                           const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace hob
