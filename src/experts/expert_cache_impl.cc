#include "experts/expert_cache_impl.h"

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "experts/policy_table.h"

namespace hob {
namespace {

std::vector<int32_t> first_ids(const ExpertGeometry& geometry) {
  std::vector<int32_t> first;
  int32_t next = 0;
  for (const ExpertLayer& layer : geometry.layers) {
    first.push_back(next);
    next += layer.n_experts;
  }
  return first;
}

}  // namespace

ExpertCache::Impl::Impl(ExpertGeometry geometry, const Backend& backend,
                        const ExpertCacheOptions& options)
    : geometry_(std::move(geometry)),
      full_bytes_(options.budget_bytes),
      budget_bytes_(options.budget_bytes),
      strict_(options.strict),
      first_id_(first_ids(geometry_)) {
  HOB_CHECK(options.io_depth > 0);
  const uint64_t low_bytes = geometry_.low.empty() ? 0 : options.low_bytes;
  HOB_CHECK(low_bytes <= budget_bytes_);
  HOB_CHECK(!strict_ || low_bytes > 0);
  HOB_CHECK(geometry_.low.empty() || geometry_.low.size() == geometry_.layers.size());
  make_tier(high(), budget_bytes_ - low_bytes, backend);
  tiers_[1].precision = Precision::kLow;
  if (low_bytes > 0) make_tier(tiers_[1], low_bytes, backend);
  policy_ = make_policy(options.policy, policy_shape());
  if (high().n_slots > 0) start_loader(backend, options);
}

void ExpertCache::Impl::start_loader(const Backend& backend, const ExpertCacheOptions& options) {
  auto reader = make_async_reader(
      geometry_.files,
      {.depth = options.io_depth, .direct_io = options.direct_io, .use_uring = options.use_uring});
  if (options.wrap_reader) reader = options.wrap_reader(std::move(reader));
  loader_ = std::make_unique<Loader>(std::move(reader), backend,
                                     plan_staging(staging_needs(geometry_), options.io_depth),
                                     options.io_depth);
}

ExpertCache::Impl::~Impl() {
  HOB_CHECK(n_pinned_ == 0);
  HOB_CHECK(!demand_.open);
}

size_t ExpertCache::Impl::dense_id(ExpertKey key) const {
  HOB_CHECK(key.layer >= 0 && static_cast<size_t>(key.layer) < geometry_.layers.size());
  HOB_CHECK(key.expert >= 0 &&
            key.expert < geometry_.layers[static_cast<size_t>(key.layer)].n_experts);
  return static_cast<size_t>(first_id_[static_cast<size_t>(key.layer)] + key.expert);
}

void ExpertCache::Impl::begin_step() {
  step_++;
  end_predictions(INT32_MAX);  // a step that failed half-way left some
}

// --- demand ---

ExpertCache::Impl::Version ExpertCache::Impl::choose_version(const ExpertWant& want) {
  Tier &hi = tiers_[0], &lo = tiers_[1];
  const size_t id = dense_id(want.key);
  const int high_slot = hi.slot_of[id];
  const int low_slot = lo.n_slots > 0 ? lo.slot_of[id] : -1;
  if (strict_ && want.want != Want::kHigh)
    return want.want == Want::kLow ? Version{&lo, low_slot} : Version{};
  // A high copy on its way is worth waiting for, unless the term was to be dropped.
  if (high_slot >= 0 && (want.want != Want::kSkip || info(high_slot).state == SlotState::kReady))
    return {&hi, high_slot};
  if (want.want == Want::kHigh) return {&hi, -1};
  if (low_slot >= 0 && (want.want == Want::kLow || info(low_slot).state == SlotState::kReady))
    return {&lo, low_slot};
  if (want.want == Want::kLow) return lo.n_slots > 0 ? Version{&lo, -1} : Version{&hi, -1};
  return {};
}

void ExpertCache::Impl::open_demand(std::span<const ExpertWant> wants) {
  HOB_CHECK(!demand_.open);
  demand_.open = true;
  demand_.layer = wants.empty() ? -1 : wants[0].key.layer;
  demand_.pending.clear();
  demand_.next_pending = 0;
  demand_.ready.clear();
  demand_.failed.clear();
  demand_.skipped.clear();
  if (n_loading_ > 0) apply(loader_->poll());  // prefetched, or left over from a cancelled demand
  for (const ExpertWant& want : wants) {
    HOB_CHECK(want.key.layer == demand_.layer);
    const int id = static_cast<int>(dense_id(want.key));
    const Version version = choose_version(want);
    if (!version.tier) {
      demand_.skipped.push_back(want.key);
      count<&ExpertCacheStats::skips>();
      continue;
    }
    // Even if all are resident: the budget may shrink, and then the policy should know.
    policy_->on_use(id, version.tier->precision, step_);
    const bool hit = version.slot >= 0 && info(version.slot).state == SlotState::kReady;
    hit ? count<&ExpertCacheStats::hits>() : count<&ExpertCacheStats::misses>();
    if (version.tier != &high())
      hit ? count<&ExpertCacheStats::low_hits>() : count<&ExpertCacheStats::low_misses>();
    if (version.slot >= 0)
      demand_slot(version.slot);
    else
      demand_.pending.push_back({want.key, version.tier->precision});
  }
  end_predictions(demand_.layer);
  pump();
}

// The demand wants what this slot holds or will hold.
void ExpertCache::Impl::demand_slot(int slot) {
  SlotInfo& s = info(slot);
  HOB_CHECK(!s.wanted);  // keys are distinct
  s.wanted = true;
  set_evictable(slot, false);
  if (s.prefetch) {
    s.prefetch = false;
    count<&ExpertCacheStats::prefetches_used>();
    if (s.state == SlotState::kLoading) {
      count<&ExpertCacheStats::prefetches_late>();
      loader_->promote(slot);
    }
  }
  if (s.state == SlotState::kReady)
    demand_.ready.push_back(slot);
  else
    demand_.n_loading++;
}

void ExpertCache::Impl::close_demand() {
  for (const int slot : demand_.ready) {
    info(slot).wanted = false;
    refresh(slot);
  }
  if (demand_.n_loading > 0) {
    // What no read was started for is given up; the rest arrives later and serves as cache content.
    for (const int slot : loader_->cancel_queued()) {
      n_loading_--;
      empty_slot(slot);
    }
    for (SlotInfo& s : slots_) s.wanted = false;
  }
  demand_.n_loading = 0;
  demand_.ready.clear();
  demand_.failed.clear();
  demand_.skipped.clear();
  demand_.pending.clear();
  demand_.next_pending = 0;
  demand_.open = false;
}

// `leases`: empty, for the result.
std::vector<ExpertLease> ExpertCache::Impl::next(ExpertCache& cache,
                                                 std::vector<ExpertLease> leases) {
  HOB_CHECK(demand_.open);
  if (n_loading_ > 0) apply(loader_->poll());
  pump();
  const auto nothing = [&] {
    return demand_.ready.empty() && demand_.failed.empty() && demand_.skipped.empty();
  };
  if (nothing()) {
    if (demand_.n_loading == 0 && demand_.n_pending() == 0) return leases;
    wait_for_arrival();
  }
  const size_t n_ready = std::min(demand_.ready.size(), hand_out_limit());
  leases.reserve(n_ready + demand_.failed.size() + demand_.skipped.size());
  for (size_t i = 0; i < n_ready; i++) leases.push_back(make_lease(cache, demand_.ready[i]));
  demand_.ready.erase(demand_.ready.begin(),
                      demand_.ready.begin() + static_cast<std::ptrdiff_t>(n_ready));
  hand_out_failures(leases);
  return leases;
}

void ExpertCache::Impl::hand_out_failures(std::vector<ExpertLease>& leases) {
  for (DemandState::Failure& failure : demand_.failed) {
    ExpertLease lease;
    lease.key_ = failure.key;
    lease.precision_ = failure.precision;
    lease.error_ = failure.error;
    leases.push_back(std::move(lease));
  }
  for (const ExpertKey key : demand_.skipped) {
    ExpertLease lease;
    lease.key_ = key;
    leases.push_back(std::move(lease));
  }
  demand_.failed.clear();
  demand_.skipped.clear();
}

// While some keys have no slot, half of this demand's slots stay with the cache: when the caller
// drops the leases of one half, the loader fills those slots while the caller computes with the
// other half.
size_t ExpertCache::Impl::hand_out_limit() const {
  if (demand_.n_pending() == 0) return demand_.ready.size();
  return (demand_.ready.size() + static_cast<size_t>(demand_.n_loading) + 1) / 2;
}

void ExpertCache::Impl::wait_for_arrival() {
  const int64_t start = now_ns();
  while (demand_.ready.empty() && demand_.failed.empty()) {
    HOB_CHECK(n_loading_ >
              0);  // else every slot is leased: the caller must drop its leases before next()
    apply(loader_->wait());
    pump();
  }
  count<&ExpertCacheStats::stall_ns>(static_cast<uint64_t>(now_ns() - start));
}

ExpertLease ExpertCache::Impl::make_lease(ExpertCache& cache, int slot) {
  SlotInfo& s = info(slot);
  Tier& tier = tier_of(slot);
  s.wanted = false;
  s.n_pins++;
  n_pinned_++;
  const size_t i = static_cast<size_t>(s.key.layer);
  ExpertLease lease;
  lease.cache_ = &cache;
  lease.slot_ = slot;
  lease.key_ = s.key;
  lease.precision_ = tier.precision;
  for (size_t part = 0; part < 3; part++) {
    const ExpertMatrix& m = layers_of(geometry_, tier.precision)[i].parts[part];
    lease.weights_[part] = {m.dtype, m.rows, m.cols,
                            tier.data(slot) + tier.layouts[i].offset[part]};
  }
  return lease;
}

void ExpertCache::Impl::unpin(int slot) {
  info(slot).n_pins--;
  n_pinned_--;
  refresh(slot);
  pump();
}

// --- prefetch ---

bool ExpertCache::Impl::prefetch(std::span<const ExpertWant> wants) {
  if (wants.empty() || resident()) return true;
  if (demand_.n_pending() > 0) return false;  // what is certain still lacks room
  const int layer = wants[0].key.layer;
  bool all_there = true;
  jobs_.clear();
  for (const ExpertWant& want : wants) {
    const Version version = choose_version(want);
    if (!version.tier) continue;
    Tier& tier = *version.tier;
    int slot = version.slot;
    if (slot < 0) {
      all_there = false;
      // Half of the slots at most: the rest serves what is certain.
      if (static_cast<int>(predicted_.size()) >= tier.n_usable / 2) continue;
      slot = take_slot(tier, layer);
      if (slot < 0) continue;
      assign(tier, slot, want.key);
      info(slot).prefetch = true;
      jobs_.push_back(make_job(slot));
      jobs_.back().prefetch = true;
      count<&ExpertCacheStats::prefetches>();
    } else if (info(slot).state == SlotState::kLoading) {
      all_there = false;
    }
    if (info(slot).predicted) continue;
    info(slot).predicted = true;
    predicted_.push_back(slot);
    refresh(slot);
  }
  loader_->enqueue(jobs_);
  return all_there;
}

// --- preload ---

// Everything fits: in the order of the file. Else expert by expert over the layers, so that each
// gets the same share.
std::vector<ExpertKey> ExpertCache::Impl::preload_order() const {
  std::vector<ExpertKey> keys;
  for (size_t i = 0; i < geometry_.layers.size(); i++)
    for (int32_t e = 0; e < geometry_.layers[i].n_experts; e++)
      keys.push_back({static_cast<int32_t>(i), e});
  if (tiers_[0].budget_bytes < tiers_[0].sizes.total)
    std::stable_sort(keys.begin(), keys.end(),
                     [](ExpertKey a, ExpertKey b) { return a.expert < b.expert; });
  return keys;
}

void ExpertCache::Impl::preload(const std::function<void(uint64_t, uint64_t)>& progress) {
  HOB_CHECK(!demand_.open);
  if (high().n_slots == 0) return;
  jobs_.clear();
  uint64_t total = 0, done = 0;
  for (const ExpertKey key : preload_order()) {
    if (high().slot_of[dense_id(key)] >= 0) continue;
    const int slot = high().pool->take(high().layouts[static_cast<size_t>(key.layer)].n_bytes);
    if (slot < 0) break;
    assign(high(), slot, key);
    jobs_.push_back(make_job(slot));
    total += info(slot).n_bytes;
  }
  loader_->enqueue(jobs_);
  jobs_ = {};  // as long as the model; demands need little
  std::exception_ptr error;
  if (progress) progress(0, total);
  while (n_loading_ > 0) {
    std::vector<LoadResult> results = loader_->wait();
    for (LoadResult& result : results) {
      done += info(result.slot).n_bytes;
      apply_one(result);
      if (result.error && !error) error = result.error;
    }
    if (progress) progress(std::min(done, total), total);
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace hob
