#pragma once
// What to evict. A policy decides and never acts: no I/O, no clock (the step is an argument), so
// that a simulator and the cache run the same code. Experts have dense ids 0 .. n_experts-1 over
// all layers, layer by layer. Later policies (HOBBIT's mix, distance to the layer, offline Belady)
// need no more than this view.
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace hob {

struct PolicyShape {
  int n_layers = 0;
  std::vector<int32_t> layer_of;                        // [dense id]
  size_t n_experts() const { return layer_of.size(); }  // over all layers
};

struct EvictionView {
  std::span<const int32_t> expert_of_slot;  // [n_slots] dense id, -1 = empty
  std::span<const uint8_t> evictable;       // [n_slots] 1 = may be chosen
  int layer = 0;                            // the layer that needs room
  int64_t step = 0;
};

class ExpertPolicy {
 public:
  virtual ~ExpertPolicy() = default;
  virtual std::string_view name() const = 0;
  // Some row of `step` needs `expert`. Once per demand, in the order of the demand. O(1).
  virtual void on_use(int expert, int64_t step) = 0;
  // The slot to empty, or -1 when none is evictable. O(n_slots).
  virtual int choose_victim(const EvictionView& view) const = 0;
};

// The evictable slot whose expert has the smallest value(expert); the first of equals; -1 = none.
template <class Value>
int least_valuable(const EvictionView& view, Value value) {
  int best = -1;
  for (size_t slot = 0; slot < view.evictable.size(); slot++) {
    if (!view.evictable[slot]) continue;
    if (best < 0 ||
        value(view.expert_of_slot[slot]) < value(view.expert_of_slot[static_cast<size_t>(best)]))
      best = static_cast<int>(slot);
  }
  return best;
}

}  // namespace hob
