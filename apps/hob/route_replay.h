#pragma once
// --route-trace: routing from a file instead of the model's own router, for plan, bench and serve.
#include <optional>
#include <string>
#include <vector>

#include "engine/route_trace.h"
#include "engine/uniform_routing.h"
#include "model/spec.h"

namespace hob::app {

// Outlives the decoder that it was given to.
class RouteReplay {
 public:
  // `source`: a trace, "uniform" (even, independent routing, what `hob plan` assumes without a
  // trace), or "" for the model's own router. Throws Error naming what is wrong in the file.
  explicit RouteReplay(const std::string& source);

  // What the decoder is given; null = the model's own router. Throws Error(kInvalidArgument) when
  // the model has too few experts.
  RouteOverride* fit(const MoeSpec& moe);
  // Null unless the source is a trace.
  TraceRouting* trace() { return trace_ ? &*trace_ : nullptr; }

 private:
  bool is_uniform_;
  std::vector<RouteTrace> turns_;
  std::optional<TraceRouting> trace_;
  std::optional<UniformRouting> uniform_;
};

}  // namespace hob::app
