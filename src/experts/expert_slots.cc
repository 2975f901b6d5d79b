// The slots of the cache: who is in them, how they are filled and emptied.
#include <algorithm>

#include "base/error.h"
#include "experts/expert_cache_impl.h"

namespace hob {
PolicyShape ExpertCache::Impl::policy_shape() const {
  const Tier &hi = tiers_[0], &lo = tiers_[1];
  PolicyShape shape;
  shape.n_layers = static_cast<int>(geometry_.layers.size());
  shape.n_slots = hi.n_slots;
  if (lo.n_slots > 0)
    shape.low_ratio = static_cast<double>(lo.sizes.total) / static_cast<double>(hi.sizes.total);
  for (size_t i = 0; i < geometry_.layers.size(); i++)
    shape.layer_of.insert(shape.layer_of.end(), static_cast<size_t>(geometry_.layers[i].n_experts),
                          static_cast<int32_t>(i));
  return shape;
}

int ExpertCache::Impl::copy_of(int slot) {
  const int id = expert_of_[static_cast<size_t>(slot)];
  return tier_of(slot).precision == Precision::kHigh ? id : id + tiers_[0].sizes.n_experts;
}

void ExpertCache::Impl::make_tier(Tier& tier, uint64_t budget_bytes, const Backend& backend) {
  const std::vector<ExpertLayer>& layers = layers_of(geometry_, tier.precision);
  tier.budget_bytes = tier.full_bytes = budget_bytes;
  tier.layouts = make_layouts(geometry_, backend, tier.precision);
  tier.sizes = measure(layers, tier.layouts);
  tier.slot_of.assign(static_cast<size_t>(tier.sizes.n_experts), -1);
  tier.first_slot = static_cast<int>(slots_.size());
  if (tier.sizes.n_experts == 0) return;
  if (budget_bytes < tier.sizes.largest)
    fail(Code::kResourceExhausted,
         "[experts] expected a cache of at least {} bytes (one expert), the budget is {}",
         tier.sizes.largest, budget_bytes);
  tier.n_slots = tier.n_usable = max_resident(layers, tier.layouts, budget_bytes);
  slots_.resize(slots_.size() + static_cast<size_t>(tier.n_slots));
  expert_of_.resize(slots_.size(), -1);
  evictable_.resize(slots_.size(), 0);
  tier.pool = std::make_unique<SlotPool>(tier.n_slots, tier.sizes.largest, budget_bytes,
                                         tier.sizes.largest == tier.sizes.smallest);
}

void ExpertCache::Impl::pump() {
  if (demand_.n_pending() == 0) return;
  jobs_.clear();
  while (demand_.n_pending() > 0) {
    const DemandState::Pending& next = demand_.pending[demand_.next_pending];
    Tier& tier = tiers_[static_cast<size_t>(next.precision)];
    const int slot = make_room(tier, next.key.layer);
    if (slot < 0) break;
    demand_.next_pending++;
    demand_.n_loading++;
    assign(tier, slot, next.key);
    info(slot).wanted = true;
    jobs_.push_back(make_job(slot));
  }
  loader_->enqueue(jobs_);
}

// For a demand: what is certain goes before what is predicted. -1 when the rest is pinned, wanted
// or loading.
int ExpertCache::Impl::make_room(Tier& tier, int layer) {
  const int slot = take_slot(tier, layer);
  if (slot >= 0 || predicted_.empty()) return slot;
  end_predictions(INT32_MAX);
  return take_slot(tier, layer);
}

// A slot for an expert of `layer`, evicting as needed.
int ExpertCache::Impl::take_slot(Tier& tier, int layer) {
  const uint64_t n_bytes = tier.layouts[static_cast<size_t>(layer)].n_bytes;
  while (true) {
    const int slot = tier.pool->take(n_bytes);
    if (slot >= 0) return slot + tier.first_slot;
    if (!evict_one(tier, demand_.open ? demand_.layer : layer)) return -1;
  }
}

// Empties the slot that the policy can spare when `layer` needs room; false: it can spare none.
bool ExpertCache::Impl::evict_one(const Tier& tier, int layer) {
  const int copy = policy_->choose_victim({.pool = tier.precision, .layer = layer, .step = step_});
  if (copy < 0) return false;
  const int id = tier.precision == Precision::kHigh ? copy : copy - tiers_[0].sizes.n_experts;
  const int victim = tier.slot_of[static_cast<size_t>(id)];
  HOB_CHECK(victim >= 0 && evictable_[static_cast<size_t>(victim)]);
  empty_slot(victim);
  count<&ExpertCacheStats::evictions>();
  return true;
}

// --- another budget ---

void ExpertCache::Impl::set_budget(uint64_t bytes) {
  HOB_CHECK(!demand_.open && n_pinned_ == 0);
  bytes = std::clamp(bytes, least_bytes(), std::max(least_bytes(), full_bytes_));
  if (bytes == budget_bytes_ || high().n_slots == 0) return;
  if (bytes < budget_bytes_) {
    // Nothing may be in the way of an eviction: guesses end, and what is being read (guesses, or
    // what a demand gave up) arrives first. That is at most what the reader has in flight.
    end_predictions(INT32_MAX);
    for (const int slot : loader_->cancel_queued()) {
      n_loading_--;
      empty_slot(slot);
    }
    while (n_loading_ > 0) apply(loader_->wait());
  }
  Tier& low = tiers_[1];
  uint64_t low_bytes = low.full_bytes;
  if (low.n_slots > 0 && bytes < full_bytes_) {  // each tier keeps its share
    const double share = static_cast<double>(low.full_bytes) / static_cast<double>(full_bytes_);
    low_bytes = std::clamp(
        static_cast<uint64_t>(share * static_cast<double>(bytes)), low.least_bytes(),
        std::max(low.least_bytes(), std::min(low.full_bytes, bytes - high().least_bytes())));
  }
  resize_tier(high(), bytes - low_bytes);
  if (low.n_slots > 0) resize_tier(low, low_bytes);
  budget_bytes_ = bytes;
}

void ExpertCache::Impl::resize_tier(Tier& tier, uint64_t bytes) {
  // Between two steps: the first layer is what comes next.
  const int last_layer = static_cast<int>(geometry_.layers.size()) - 1;
  while (tier.pool->held_bytes() > bytes) HOB_CHECK(evict_one(tier, last_layer));
  tier.budget_bytes = bytes;
  tier.n_usable = bytes == tier.full_bytes
                      ? tier.n_slots
                      : std::min(tier.n_slots, static_cast<int>(bytes / tier.sizes.largest));
  tier.pool->set_budget(bytes, [&](int from, int to) {
    move_slot(tier, from + tier.first_slot, to + tier.first_slot);
  });
}

// The bytes moved. The policy knows copies, not slots.
void ExpertCache::Impl::move_slot(Tier& tier, int from, int to) {
  const size_t f = static_cast<size_t>(from), t = static_cast<size_t>(to);
  HOB_CHECK(slots_[f].state == SlotState::kReady && slots_[t].state == SlotState::kEmpty);
  std::swap(slots_[f], slots_[t]);
  std::swap(expert_of_[f], expert_of_[t]);
  std::swap(evictable_[f], evictable_[t]);
  tier.slot_of[static_cast<size_t>(expert_of_[t])] = to;
}

void ExpertCache::Impl::assign(Tier& tier, int slot, ExpertKey key) {
  SlotInfo& s = info(slot);
  HOB_CHECK(s.state == SlotState::kEmpty);
  const size_t id = dense_id(key);
  s.key = key;
  s.n_bytes = tier.layouts[static_cast<size_t>(key.layer)].n_bytes;
  s.state = SlotState::kLoading;
  n_loading_++;
  tier.slot_of[id] = slot;
  expert_of_[static_cast<size_t>(slot)] = static_cast<int32_t>(id);
  policy_->on_load(copy_of(slot));
  used_bytes_.fetch_add(s.n_bytes, std::memory_order_relaxed);
}

LoadJob ExpertCache::Impl::make_job(int slot) {
  const ExpertKey key = info(slot).key;
  Tier& tier = tier_of(slot);
  const size_t i = static_cast<size_t>(key.layer);
  const ExpertLayer& layer = layers_of(geometry_, tier.precision)[i];
  const ExpertLayout& layout = tier.layouts[i];
  LoadJob job;
  job.slot = slot;
  if (!layer.slabs.empty()) {
    const ExpertSlab& slab = layer.slabs[static_cast<size_t>(key.expert)];
    HOB_CHECK(slab.n_bytes == layout.n_bytes);
    job.slab = {layer.slab_file, slab.offset, slab.n_bytes, slab.hash, tier.data(slot)};
    return job;
  }
  for (size_t part = 0; part < 3; part++) {
    const ExpertMatrix& m = layer.parts[part];
    job.slices[part] = {.dtype = m.dtype,
                        .rows = m.rows,
                        .cols = m.cols,
                        .reads = m.reads_of(key.expert),
                        .dst = tier.data(slot) + layout.offset[part],
                        .maker = m.is_made() ? geometry_.maker.get() : nullptr,
                        .made_tensor = static_cast<size_t>(m.made_tensor),
                        .first_row = int64_t{key.expert} * m.rows};
  }
  return job;
}

void ExpertCache::Impl::apply(std::vector<LoadResult> results) {
  for (LoadResult& result : results) apply_one(result);
}

void ExpertCache::Impl::apply_one(LoadResult& result) {
  SlotInfo& s = info(result.slot);
  HOB_CHECK(s.state == SlotState::kLoading);
  count<&ExpertCacheStats::bytes_read>(result.n_bytes);
  if (result.cancelled) {
    if (s.wanted) {  // given up and then wanted after all
      const LoadJob job = make_job(result.slot);
      loader_->enqueue({&job, 1});
      return;
    }
    n_loading_--;
    empty_slot(result.slot);
    return;
  }
  n_loading_--;
  if (s.wanted) demand_.n_loading--;
  if (!result.error) return arrived(result.slot);
  count<&ExpertCacheStats::read_errors>();
  const Precision precision = tier_of(result.slot).precision;
  if (result.corrupt)
    result.error = std::make_exception_ptr(
        Error(Code::kDataLoss,
              fmt::format(
                  "[pack] blk.{} expert {} ({} precision): expected its hash, the disk gave other "
                  "bytes twice",
                  s.key.layer, s.key.expert, precision == Precision::kHigh ? "high" : "low")));
  if (s.wanted) demand_.failed.push_back({s.key, precision, result.error});
  empty_slot(result.slot);
}

void ExpertCache::Impl::arrived(int slot) {
  SlotInfo& s = info(slot);
  s.state = SlotState::kReady;
  if (s.wanted) demand_.ready.push_back(slot);
  refresh(slot);
  if (strict_) return;
  // The high copy serves every want: the low one is of no use beside it.
  Tier& low = tiers_[1];
  if (low.n_slots == 0 || &tier_of(slot) == &low) return;
  const int copy = low.slot_of[dense_id(s.key)];
  if (copy >= 0 && evictable_[static_cast<size_t>(copy)]) empty_slot(copy);
}

void ExpertCache::Impl::empty_slot(int slot) {
  SlotInfo& s = info(slot);
  Tier& tier = tier_of(slot);
  HOB_CHECK(s.n_pins == 0);
  if (s.prefetch && s.state == SlotState::kReady)
    count<&ExpertCacheStats::prefetch_bytes>(s.n_bytes);
  if (s.predicted) std::erase(predicted_, slot);
  set_evictable(slot, false);
  int32_t& id = expert_of_[static_cast<size_t>(slot)];
  tier.slot_of[static_cast<size_t>(id)] = -1;
  id = -1;
  used_bytes_.fetch_sub(s.n_bytes, std::memory_order_relaxed);
  s = SlotInfo{};
  tier.pool->give(slot - tier.first_slot);
}

void ExpertCache::Impl::refresh(int slot) {
  const SlotInfo& s = info(slot);
  set_evictable(slot, s.state == SlotState::kReady && s.n_pins == 0 && !s.wanted && !s.predicted);
}

void ExpertCache::Impl::set_evictable(int slot, bool evictable) {
  evictable_[static_cast<size_t>(slot)] = evictable;
  policy_->set_evictable(copy_of(slot), evictable);
}

void ExpertCache::Impl::end_predictions(int layer) {
  if (predicted_.empty()) return;
  std::vector<int> ended;
  std::erase_if(predicted_, [&](int slot) {
    const bool its = info(slot).key.layer <= layer;
    if (its) ended.push_back(slot);
    return its;
  });
  for (const int slot : ended) {
    SlotInfo& s = info(slot);
    s.predicted = false;
    if (s.state == SlotState::kLoading && s.prefetch)
      cancel_prefetch(slot);
    else
      refresh(slot);
  }
}

void ExpertCache::Impl::cancel_prefetch(int slot) {
  if (!loader_->cancel(slot)) return;  // its reads in flight finish first
  n_loading_--;
  empty_slot(slot);
}

}  // namespace hob
