#pragma once
#include <string>
#include <vector>

#include "model/batch.h"

namespace hob {

struct CacheShape {
  std::vector<int> moe_layers;  // indices of the layers that have experts
  int n_experts = 0;            // per layer
  int n_slots = 0;              // experts that fit, over all layers
  std::string policy;
};

// Share of expert uses that hit when one sequence decodes n_tok tokens routed by `routing`, after
// as many tokens of warm-up from a full cache. Runs the cache's own policy code.
double simulate_decode_hits(RouteOverride& routing, const CacheShape& shape, int n_tok);

}  // namespace hob
