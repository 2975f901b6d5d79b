#include "route_replay.h"

#include "base/error.h"

namespace hob::app {

RouteReplay::RouteReplay(const std::string& source) : is_uniform_(source == "uniform") {
  if (source.empty() || is_uniform_) return;
  turns_ = read_route_traces(source);
  trace_.emplace(turns_).replay_decode(0);
}

RouteOverride* RouteReplay::fit(const MoeSpec& moe) {
  if (trace_) {
    check_trace_fits(turns_.front(), moe.n_experts);
    return &*trace_;
  }
  if (!is_uniform_) return nullptr;
  if (moe.n_experts == 0)
    fail(Code::kInvalidArgument, "[trace] expected a model with experts, this one is dense");
  return &uniform_.emplace(moe.n_experts, moe.top_k);
}

}  // namespace hob::app
