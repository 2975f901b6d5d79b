#include "engine/hit_simulator.h"

#include <algorithm>

#include "engine/cache_sim.h"
#include "experts/policy_table.h"

namespace hob {
namespace {

// Experts of one byte: the budget counts slots.
CacheSim make_sim(const CacheShape& c) {
  SimShape shape{.n_layers = static_cast<int>(c.moe_layers.size()),
                 .n_experts = c.n_experts,
                 .expert_bytes = {},
                 .low_ratio = 1};
  shape.expert_bytes.assign(c.moe_layers.size(), 1);
  const auto n_slots = static_cast<uint64_t>(std::max(1, c.n_slots));
  auto policy = make_policy(c.policy, shape.policy_shape(n_slots));
  return {shape, {.high_bytes = n_slots, .low_bytes = 0}, std::move(policy)};
}

}  // namespace

double simulate_decode_hits(RouteOverride& routing, const CacheShape& shape, int n_tok) {
  if (shape.moe_layers.empty()) return 1;
  CacheSim cache = make_sim(shape);
  const auto k = static_cast<size_t>(routing.top_k());
  std::vector<int32_t> ids(k);
  std::vector<float> weights(k);
  std::vector<SimUse> uses(k);
  SimCounts counts;
  for (int t = 0; t < 2 * n_tok; t++) {
    const StepRow row{.token = t, .position = t, .seq = 0, .kv_write_slot = 0, .kv_read = {}};
    for (size_t i = 0; i < shape.moe_layers.size(); i++) {
      routing.route(shape.moe_layers[i], {&row, 1}, ids.data(), weights.data());
      for (size_t j = 0; j < k; j++) uses[j].expert = ids[j];
      const SimCounts n = cache.demand(static_cast<int>(i), uses, t);
      if (t >= n_tok) counts += n;
    }
  }
  return counts.hit_rate();
}

}  // namespace hob
