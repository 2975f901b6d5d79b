#include "engine/hit_simulator.h"

#include <algorithm>
#include <memory>

#include "experts/policy_table.h"

namespace hob {
namespace {

PolicyShape policy_shape(const CacheShape& cache) {
  PolicyShape shape{static_cast<int>(cache.moe_layers.size()), {}};
  for (int i = 0; i < shape.n_layers; i++)
    shape.layer_of.insert(shape.layer_of.end(), static_cast<size_t>(cache.n_experts), i);
  return shape;
}

class SimulatedCache {
 public:
  explicit SimulatedCache(const CacheShape& shape)
      : shape_(shape),
        n_ids_(static_cast<int>(shape.moe_layers.size()) * shape.n_experts),
        policy_(make_policy(shape.policy, policy_shape(shape))),
        slot_of_(static_cast<size_t>(n_ids_), -1),
        expert_of_slot_(static_cast<size_t>(std::clamp(shape.n_slots, 1, std::max(1, n_ids_))), -1),
        evictable_(expert_of_slot_.size(), 1) {}

  // One layer of one token: number of hits among `ids`.
  int use(int i_layer, std::span<const int32_t> ids, int64_t step) {
    std::vector<int> dense, missing;
    for (int32_t id : ids) dense.push_back(i_layer * shape_.n_experts + id);
    for (int e : dense) {
      policy_->on_use(e, step);
      if (slot_of_[static_cast<size_t>(e)] < 0) missing.push_back(e);
    }
    pin(dense, 0);
    for (int e : missing) load(e, i_layer, step);
    pin(dense, 1);
    return static_cast<int>(dense.size() - missing.size());
  }

 private:
  void pin(const std::vector<int>& experts, uint8_t evictable) {
    for (int e : experts)
      if (const int slot = slot_of_[static_cast<size_t>(e)]; slot >= 0)
        evictable_[static_cast<size_t>(slot)] = evictable;
  }
  void load(int expert, int i_layer, int64_t step) {
    const auto empty = std::find(expert_of_slot_.begin(), expert_of_slot_.end(), -1);
    int slot = static_cast<int>(empty - expert_of_slot_.begin());
    if (empty == expert_of_slot_.end())
      slot = policy_->choose_victim({expert_of_slot_, evictable_, i_layer, step});
    if (slot < 0) return;  // more experts in one step than slots: read, used and dropped
    int32_t& holder = expert_of_slot_[static_cast<size_t>(slot)];
    if (holder >= 0) slot_of_[static_cast<size_t>(holder)] = -1;
    holder = expert;
    slot_of_[static_cast<size_t>(expert)] = slot;
    evictable_[static_cast<size_t>(slot)] = 0;
  }

  const CacheShape& shape_;
  int n_ids_;
  std::unique_ptr<ExpertPolicy> policy_;
  std::vector<int> slot_of_;  // by dense expert id; -1 = not in the cache
  std::vector<int32_t> expert_of_slot_;
  std::vector<uint8_t> evictable_;
};

}  // namespace

double simulate_decode_hits(RouteOverride& routing, const CacheShape& shape, int n_tok) {
  SimulatedCache cache(shape);
  const auto k = static_cast<size_t>(routing.top_k());
  std::vector<int32_t> ids(k);
  std::vector<float> weights(k);
  int64_t hits = 0, uses = 0;
  for (int t = 0; t < 2 * n_tok; t++) {
    const StepRow row{.token = t, .position = t, .seq = 0, .kv_write_slot = 0, .kv_read = {}};
    for (size_t i = 0; i < shape.moe_layers.size(); i++) {
      routing.route(shape.moe_layers[i], {&row, 1}, ids.data(), weights.data());
      const int n_hits = cache.use(static_cast<int>(i), ids, t);
      if (t < n_tok) continue;
      hits += n_hits;
      uses += static_cast<int64_t>(k);
    }
  }
  return uses ? static_cast<double>(hits) / static_cast<double>(uses) : 1;
}

}  // namespace hob
