#include "engine/cache_sim.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hob {

uint64_t SimShape::copy_bytes(int layer, Precision p) const {
  const uint64_t high = expert_bytes[static_cast<size_t>(layer)];
  if (p == Precision::kHigh) return high;
  return static_cast<uint64_t>(std::llround(low_ratio * static_cast<double>(high)));
}

uint64_t SimShape::total_bytes() const {
  uint64_t n = 0;
  for (const uint64_t b : expert_bytes) n += b * static_cast<uint64_t>(n_experts);
  return n;
}

PolicyShape SimShape::policy_shape(uint64_t high_bytes) const {
  PolicyShape p;
  p.n_layers = n_layers;
  p.low_ratio = low_ratio;
  for (int layer = 0; layer < n_layers; layer++)
    p.layer_of.insert(p.layer_of.end(), static_cast<size_t>(n_experts), layer);
  const uint64_t largest = *std::max_element(expert_bytes.begin(), expert_bytes.end());
  if (largest > 0) p.n_slots = static_cast<int>(high_bytes / largest);
  return p;
}

SimCounts& SimCounts::operator+=(const SimCounts& o) {
  hits_high += o.hits_high;
  hits_low += o.hits_low;
  loads_high += o.loads_high;
  loads_low += o.loads_low;
  skips += o.skips;
  bytes += o.bytes;
  rows_high += o.rows_high;
  rows_low += o.rows_low;
  rows_skipped += o.rows_skipped;
  mass_high += o.mass_high;
  mass_low += o.mass_low;
  mass_skipped += o.mass_skipped;
  stall_s += o.stall_s;
  return *this;
}

CacheSim::CacheSim(const SimShape& shape, const SimBudget& budget,
                   std::unique_ptr<ExpertPolicy> policy)
    : shape_(shape),
      policy_(std::move(policy)),
      pools_{{budget.high_bytes, 0}, {budget.low_bytes, 0}},
      resident_(2 * static_cast<size_t>(shape.n_layers) * static_cast<size_t>(shape.n_experts), 0) {
  HOB_CHECK(shape_.expert_bytes.size() == static_cast<size_t>(shape_.n_layers));
}

size_t CacheSim::copy_id(int layer, int expert, Precision p) const {
  HOB_CHECK(layer >= 0 && layer < shape_.n_layers && expert >= 0 && expert < shape_.n_experts);
  const size_t high = static_cast<size_t>(layer) * static_cast<size_t>(shape_.n_experts) +
                      static_cast<size_t>(expert);
  return p == Precision::kHigh ? high : high + resident_.size() / 2;
}

SimCounts CacheSim::demand(int layer, std::span<const SimUse> uses, int64_t step) {
  SimCounts n;
  missing_.clear();
  for (const SimUse& u : uses) {
    const size_t high = copy_id(layer, u.expert, Precision::kHigh);
    const size_t low = copy_id(layer, u.expert, Precision::kLow);
    // Ref: research notes, hobbit.md §1.3, reference code.
    Precision served = Precision::kHigh;
    if (resident_[high]) {
      n.hits_high++;
      pin(static_cast<int>(high));
    } else if (u.want == Want::kHigh) {
      n.loads_high++;
      missing_.push_back(u);
    } else if (resident_[low]) {
      served = Precision::kLow;
      n.hits_low++;
      pin(static_cast<int>(low));
    } else if (u.want == Want::kLow) {
      served = Precision::kLow;
      n.loads_low++;
      missing_.push_back(u);
    } else {
      n.skips++;
      n.rows_skipped += u.n_rows;
      n.mass_skipped += static_cast<double>(u.mass);
      continue;
    }
    (served == Precision::kHigh ? n.rows_high : n.rows_low) += u.n_rows;
    (served == Precision::kHigh ? n.mass_high : n.mass_low) += static_cast<double>(u.mass);
    policy_->on_use(static_cast<int>(high), served, step);
  }
  for (const SimUse& u : missing_) {
    const Precision p = u.want == Want::kHigh ? Precision::kHigh : Precision::kLow;
    n.bytes += shape_.copy_bytes(layer, p);
    load(layer, u.expert, p, step);
  }
  release_pins();
  return n;
}

void CacheSim::pin(int copy) {
  policy_->set_evictable(copy, false);
  pinned_.push_back(copy);
}

void CacheSim::release_pins() {
  for (const int copy : pinned_) policy_->set_evictable(copy, true);
  pinned_.clear();
}

// When nothing but the demand's own experts is left, those already served make room: the cache's
// waves. What is larger than its pool is read, used and dropped.
void CacheSim::load(int layer, int expert, Precision p, int64_t step) {
  Pool& pool = pools_[static_cast<size_t>(p)];
  const uint64_t bytes = shape_.copy_bytes(layer, p);
  if (bytes > pool.budget) return;
  while (pool.used + bytes > pool.budget) {
    int victim = policy_->choose_victim({.pool = p, .layer = layer, .step = step});
    if (victim < 0) {
      release_pins();
      victim = policy_->choose_victim({.pool = p, .layer = layer, .step = step});
    }
    HOB_CHECK(victim >= 0 && resident_[static_cast<size_t>(victim)]);
    policy_->set_evictable(victim, false);
    resident_[static_cast<size_t>(victim)] = 0;
    const auto per_layer = static_cast<size_t>(shape_.n_experts);
    const size_t high = static_cast<size_t>(victim) % (resident_.size() / 2);
    pool.used -= shape_.copy_bytes(static_cast<int>(high / per_layer), p);
  }
  const size_t copy = copy_id(layer, expert, p);
  resident_[copy] = 1;
  pool.used += bytes;
  policy_->on_load(static_cast<int>(copy));
  pinned_.push_back(static_cast<int>(copy));
}

}  // namespace hob
