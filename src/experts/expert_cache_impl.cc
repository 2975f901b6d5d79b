#include "experts/expert_cache_impl.h"

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "experts/policy_table.h"

namespace hob {
namespace {

void add(std::atomic<uint64_t>& counter, uint64_t n) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

std::vector<int32_t> first_ids(const ExpertGeometry& geometry) {
  std::vector<int32_t> first;
  int32_t next = 0;
  for (const ExpertLayer& layer : geometry.layers) {
    first.push_back(next);
    next += layer.n_experts;
  }
  return first;
}

PolicyShape policy_shape(const ExpertGeometry& geometry, int n_slots) {
  PolicyShape shape;
  shape.n_slots = n_slots;
  shape.n_layers = static_cast<int>(geometry.layers.size());
  for (size_t i = 0; i < geometry.layers.size(); i++)
    shape.layer_of.insert(shape.layer_of.end(), static_cast<size_t>(geometry.layers[i].n_experts),
                          static_cast<int32_t>(i));
  return shape;
}

}  // namespace

ExpertCache::Impl::Impl(ExpertGeometry geometry, const Backend& backend,
                        const ExpertCacheOptions& options)
    : geometry_(std::move(geometry)),
      budget_bytes_(options.budget_bytes),
      layouts_(make_layouts(geometry_, backend)),
      sizes_(measure(geometry_, layouts_)),
      first_id_(first_ids(geometry_)),
      slot_of_(static_cast<size_t>(sizes_.n_experts), -1),
      policy_(make_policy(
          options.policy,
          policy_shape(geometry_, sizes_.n_experts
                                      ? max_resident(geometry_, layouts_, budget_bytes_)
                                      : 0))) {
  HOB_CHECK(options.io_depth > 0);
  if (sizes_.n_experts == 0) return;
  if (budget_bytes_ < sizes_.largest)
    fail(Code::kResourceExhausted,
         "[experts] expected a cache of at least {} bytes (one expert), the budget is {}",
         sizes_.largest, budget_bytes_);
  const int n_slots = max_resident(geometry_, layouts_, budget_bytes_);
  slots_.resize(static_cast<size_t>(n_slots));
  expert_of_.resize(slots_.size(), -1);
  evictable_.resize(slots_.size(), 0);
  pool_ = std::make_unique<SlotPool>(n_slots, sizes_.largest, budget_bytes_,
                                     sizes_.largest == sizes_.smallest);
  start_loader(backend, options);
}

void ExpertCache::Impl::start_loader(const Backend& backend, const ExpertCacheOptions& options) {
  auto reader = make_async_reader(
      geometry_.files,
      {.depth = options.io_depth, .direct_io = options.direct_io, .use_uring = options.use_uring});
  if (options.wrap_reader) reader = options.wrap_reader(std::move(reader));
  loader_ = std::make_unique<Loader>(std::move(reader), backend,
                                     plan_staging(largest_slice(geometry_), options.io_depth),
                                     options.io_depth);
}

ExpertCache::Impl::~Impl() {
  HOB_CHECK(n_pinned_ == 0);
  HOB_CHECK(!demand_.open);
}

size_t ExpertCache::Impl::dense_id(ExpertKey key) const {
  HOB_CHECK(key.layer >= 0 && static_cast<size_t>(key.layer) < layouts_.size());
  HOB_CHECK(key.expert >= 0 &&
            key.expert < geometry_.layers[static_cast<size_t>(key.layer)].n_experts);
  return static_cast<size_t>(first_id_[static_cast<size_t>(key.layer)] + key.expert);
}

// --- demand ---

void ExpertCache::Impl::open_demand(std::span<const ExpertKey> keys) {
  HOB_CHECK(!demand_.open);
  demand_.open = true;
  demand_.pending.clear();
  demand_.next_pending = 0;
  demand_.ready.clear();
  demand_.failed.clear();
  if (n_loading_ > 0) apply(loader_->poll());  // left over from a cancelled demand
  const bool may_evict = budget_bytes_ < sizes_.total;
  for (const ExpertKey key : keys) {
    const size_t id = dense_id(key);
    HOB_CHECK(key.layer == keys[0].layer);
    if (may_evict) policy_->on_use(static_cast<int>(id), Precision::kHigh, step_);
    const int slot = slot_of_[id];
    if (slot < 0) {
      demand_.pending.push_back(key);
      continue;
    }
    SlotInfo& info = slots_[static_cast<size_t>(slot)];
    HOB_CHECK(!info.wanted);  // keys are distinct
    info.wanted = true;
    set_evictable(slot, false);
    if (info.state == SlotState::kReady)
      demand_.ready.push_back(slot);
    else
      demand_.n_loading++;
  }
  const size_t n_hits = demand_.ready.size();
  add(stats_.hits, n_hits);
  add(stats_.misses, keys.size() - n_hits);
  pump();
}

void ExpertCache::Impl::close_demand() {
  for (const int slot : demand_.ready) {
    slots_[static_cast<size_t>(slot)].wanted = false;
    refresh(slot);
  }
  if (demand_.n_loading > 0) {
    // What no read was started for is given up; the rest arrives later and serves as cache content.
    for (const int slot : loader_->cancel_queued()) {
      n_loading_--;
      empty_slot(slot);
    }
    for (SlotInfo& info : slots_) info.wanted = false;
  }
  demand_.n_loading = 0;
  demand_.ready.clear();
  demand_.failed.clear();
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
  if (demand_.ready.empty() && demand_.failed.empty()) {
    if (demand_.n_loading == 0 && demand_.n_pending() == 0) return leases;
    wait_for_arrival();
  }
  const size_t n_ready = std::min(demand_.ready.size(), hand_out_limit());
  leases.reserve(n_ready + demand_.failed.size());
  for (size_t i = 0; i < n_ready; i++) leases.push_back(make_lease(cache, demand_.ready[i]));
  demand_.ready.erase(demand_.ready.begin(),
                      demand_.ready.begin() + static_cast<std::ptrdiff_t>(n_ready));
  for (DemandState::Failure& failure : demand_.failed) {
    ExpertLease lease;
    lease.key_ = failure.key;
    lease.error_ = failure.error;
    leases.push_back(std::move(lease));
  }
  demand_.failed.clear();
  return leases;
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
  add(stats_.stall_ns, static_cast<uint64_t>(now_ns() - start));
}

ExpertLease ExpertCache::Impl::make_lease(ExpertCache& cache, int slot) {
  SlotInfo& info = slots_[static_cast<size_t>(slot)];
  info.wanted = false;
  info.n_pins++;
  n_pinned_++;
  const ExpertLayer& layer = geometry_.layers[static_cast<size_t>(info.key.layer)];
  const ExpertLayout& layout = layouts_[static_cast<size_t>(info.key.layer)];
  ExpertLease lease;
  lease.cache_ = &cache;
  lease.slot_ = slot;
  lease.key_ = info.key;
  for (size_t part = 0; part < 3; part++) {
    const ExpertMatrix& m = layer.parts[part];
    lease.weights_[part] = {m.dtype, m.rows, m.cols, pool_->data(slot) + layout.offset[part]};
  }
  return lease;
}

void ExpertCache::Impl::unpin(int slot) {
  slots_[static_cast<size_t>(slot)].n_pins--;
  n_pinned_--;
  refresh(slot);
  pump();
}

// --- slots ---

void ExpertCache::Impl::pump() {
  if (demand_.n_pending() == 0) return;
  jobs_.clear();
  while (demand_.n_pending() > 0) {
    const ExpertKey key = demand_.pending[demand_.next_pending];
    const int slot = make_room(key.layer);
    if (slot < 0) break;
    demand_.next_pending++;
    demand_.n_loading++;
    assign(slot, key);
    slots_[static_cast<size_t>(slot)].wanted = true;
    jobs_.push_back(make_job(slot));
  }
  loader_->enqueue(jobs_);
}

// A slot for an expert of `layer`, evicting as needed; -1 when the rest is pinned, wanted or
// loading.
int ExpertCache::Impl::make_room(int layer) {
  const uint64_t n_bytes = layouts_[static_cast<size_t>(layer)].n_bytes;
  while (true) {
    const int slot = pool_->take(n_bytes);
    if (slot >= 0) return slot;
    const int copy =
        policy_->choose_victim({.pool = Precision::kHigh, .layer = layer, .step = step_});
    if (copy < 0) return -1;
    const int victim = slot_of_[static_cast<size_t>(copy)];
    HOB_CHECK(victim >= 0 && evictable_[static_cast<size_t>(victim)]);
    empty_slot(victim);
    add(stats_.evictions, 1);
  }
}

void ExpertCache::Impl::assign(int slot, ExpertKey key) {
  SlotInfo& info = slots_[static_cast<size_t>(slot)];
  HOB_CHECK(info.state == SlotState::kEmpty);
  const size_t id = dense_id(key);
  info.key = key;
  info.n_bytes = layouts_[static_cast<size_t>(key.layer)].n_bytes;
  info.state = SlotState::kLoading;
  n_loading_++;
  slot_of_[id] = slot;
  expert_of_[static_cast<size_t>(slot)] = static_cast<int32_t>(id);
  policy_->on_load(static_cast<int>(id));
  add(used_bytes_, info.n_bytes);
}

LoadJob ExpertCache::Impl::make_job(int slot) {
  const ExpertKey key = slots_[static_cast<size_t>(slot)].key;
  const ExpertLayer& layer = geometry_.layers[static_cast<size_t>(key.layer)];
  const ExpertLayout& layout = layouts_[static_cast<size_t>(key.layer)];
  LoadJob job;
  job.slot = slot;
  for (size_t part = 0; part < 3; part++) {
    const ExpertMatrix& m = layer.parts[part];
    job.slices[part] = {.dtype = m.dtype,
                        .rows = m.rows,
                        .cols = m.cols,
                        .file = m.file,
                        .offset = m.offset + static_cast<uint64_t>(key.expert) * m.bytes_per_expert,
                        .n_bytes = m.bytes_per_expert,
                        .dst = pool_->data(slot) + layout.offset[part]};
  }
  return job;
}

void ExpertCache::Impl::apply(std::vector<LoadResult> results) {
  for (LoadResult& result : results) {
    SlotInfo& info = slots_[static_cast<size_t>(result.slot)];
    HOB_CHECK(info.state == SlotState::kLoading);
    n_loading_--;
    add(stats_.bytes_read, result.n_bytes);
    if (info.wanted) demand_.n_loading--;
    if (result.error) {
      add(stats_.read_errors, 1);
      if (info.wanted) demand_.failed.push_back({info.key, result.error});
      empty_slot(result.slot);
      continue;
    }
    info.state = SlotState::kReady;
    if (info.wanted) demand_.ready.push_back(result.slot);
    refresh(result.slot);
  }
}

void ExpertCache::Impl::empty_slot(int slot) {
  SlotInfo& info = slots_[static_cast<size_t>(slot)];
  HOB_CHECK(info.n_pins == 0);
  policy_->set_evictable(expert_of_[static_cast<size_t>(slot)], false);
  slot_of_[static_cast<size_t>(expert_of_[static_cast<size_t>(slot)])] = -1;
  expert_of_[static_cast<size_t>(slot)] = -1;
  used_bytes_.fetch_sub(info.n_bytes, std::memory_order_relaxed);
  info = SlotInfo{};
  refresh(slot);
  pool_->give(slot);
}

void ExpertCache::Impl::refresh(int slot) {
  const SlotInfo& info = slots_[static_cast<size_t>(slot)];
  set_evictable(slot, info.state == SlotState::kReady && info.n_pins == 0 && !info.wanted);
}

void ExpertCache::Impl::set_evictable(int slot, bool evictable) {
  evictable_[static_cast<size_t>(slot)] = evictable;
  const int32_t copy = expert_of_[static_cast<size_t>(slot)];
  if (copy >= 0) policy_->set_evictable(copy, evictable);
}

// --- preload ---

// Everything fits: in the order of the file. Else expert by expert over the layers, so that each
// gets the same share.
std::vector<ExpertKey> ExpertCache::Impl::preload_order() const {
  std::vector<ExpertKey> keys;
  for (size_t i = 0; i < geometry_.layers.size(); i++)
    for (int32_t e = 0; e < geometry_.layers[i].n_experts; e++)
      keys.push_back({static_cast<int32_t>(i), e});
  if (budget_bytes_ < sizes_.total)
    std::stable_sort(keys.begin(), keys.end(),
                     [](ExpertKey a, ExpertKey b) { return a.expert < b.expert; });
  return keys;
}

void ExpertCache::Impl::preload(const std::function<void(uint64_t, uint64_t)>& progress) {
  HOB_CHECK(!demand_.open);
  if (sizes_.n_experts == 0) return;
  jobs_.clear();
  uint64_t total = 0, done = 0;
  for (const ExpertKey key : preload_order()) {
    if (slot_of_[dense_id(key)] >= 0) continue;
    const int slot = pool_->take(layouts_[static_cast<size_t>(key.layer)].n_bytes);
    if (slot < 0) break;
    assign(slot, key);
    jobs_.push_back(make_job(slot));
    total += slots_[static_cast<size_t>(slot)].n_bytes;
  }
  loader_->enqueue(jobs_);
  jobs_ = {};  // as long as the model; demands need little
  std::exception_ptr error;
  if (progress) progress(0, total);
  while (n_loading_ > 0) {
    std::vector<LoadResult> results = loader_->wait();
    for (const LoadResult& result : results) {
      if (result.error && !error) error = result.error;
      done += slots_[static_cast<size_t>(result.slot)].n_bytes;
    }
    apply(std::move(results));
    if (progress) progress(std::min(done, total), total);
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace hob
