#pragma once
#include "model/batch.h"

namespace hob {

// Every expert is equally likely, independently for each token and layer: the assumption that `hob
// plan` states when it is given no trace. Counter-based: the same rows always route the same way.
class UniformRouting : public RouteOverride {
 public:
  UniformRouting(int n_experts, int top_k) : n_experts_(n_experts), top_k_(top_k) {}
  int top_k() const override { return top_k_; }
  void route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) override;

 private:
  int n_experts_, top_k_;
};

}  // namespace hob
