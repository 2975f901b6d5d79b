#pragma once
// Joins the probe of this machine with the sizes of a planned model into a prediction.
#include "engine/machine_probe.h"
#include "engine/model_session.h"
#include "engine/speed_model.h"

namespace hob {

struct SpeedReport {
  SpeedInput input;
  SpeedEstimate estimate;
  bool disk_direct = true;
};

// Runs the probes: about a second, and up to 100 MiB for that time. `routing`: what decode is
// assumed to choose; null = uniform.
SpeedReport measure_and_predict(ModelPlan& plan, RouteOverride* routing);

}  // namespace hob
