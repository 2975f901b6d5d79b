#pragma once
// What to evict. A policy decides and never acts: no I/O, no clock (the step is an argument), so
// that a simulator and the cache run the same code.
//
// Experts have dense ids 0 .. n_experts-1 over all layers, layer by layer. What occupies memory is
// a copy: the high-precision copy of expert e has id e, the low-precision one n_experts + e.
//
// The cache tells every policy the same things: once per demand which experts are used and at which
// precision, what was loaded, and which copies may go. In return a decision needs no look at all
// slots: the policy keeps the candidates of each layer in order (policies/copy_groups.h).
#include <cstdint>
#include <string_view>
#include <vector>

#include "experts/expert_store.h"

namespace hob {

struct PolicyShape {
  int n_layers = 0;
  std::vector<int32_t> layer_of;  // [expert], ascending
  int n_slots = 0;                // about how many high copies fit; 0 = not known
  double low_ratio = 0.25;        // bytes of a low copy / bytes of a high one

  int n_experts() const { return static_cast<int>(layer_of.size()); }  // over all layers
  int n_copies() const { return 2 * n_experts(); }
  int copy_of(int expert, Precision p) const {
    return p == Precision::kHigh ? expert : expert + n_experts();
  }
  int expert_of(int copy) const { return copy < n_experts() ? copy : copy - n_experts(); }
};

struct EvictionRequest {
  Precision pool = Precision::kHigh;  // copies of this precision make room
  int layer = 0;                      // the layer that needs it
  int64_t step = 0;
};

class ExpertPolicy {
 public:
  virtual ~ExpertPolicy() = default;
  virtual std::string_view name() const = 0;

  // Records that the papers keep per sequence begin anew; what is in the cache stays.
  virtual void on_sequence_start() {}
  // Some row of `step` uses `expert`, served at precision `used` (from the cache or by a load).
  // Once per expert of a demand, in the order of the demand; steps never decrease. O(1).
  virtual void on_use(int expert, Precision used, int64_t step) = 0;
  // A copy gets a slot.
  virtual void on_load(int /*copy*/) {}
  // Whether a copy may be chosen: it is in a slot, complete, and nobody holds it. All begin with
  // false; a copy that leaves its slot goes back to false. Repeating a value does nothing.
  virtual void set_evictable(int copy, bool evictable) = 0;

  // The copy to evict, or -1 when none may be.
  virtual int choose_victim(const EvictionRequest& request) = 0;
};

}  // namespace hob
