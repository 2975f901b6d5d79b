#pragma once
// Runs a text through a model and measures what goes into its experts.
#include <functional>
#include <span>

#include "engine/observed_run.h"
#include "experts/expert_input_stats.h"

namespace hob {

// Of a session that allows kCalibrationRows; see run_observed for the text, the progress and what
// is thrown.
ExpertInputStats calibrate(ModelSession& session, std::span<const int32_t> tokens,
                           const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace hob
