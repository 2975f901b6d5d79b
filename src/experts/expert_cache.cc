#include "experts/expert_cache.h"

#include <utility>

#include "base/error.h"
#include "experts/expert_cache_impl.h"

namespace hob {

// --- ExpertLease ---

ExpertLease::ExpertLease(ExpertLease&& other) noexcept
    : cache_(std::exchange(other.cache_, nullptr)),
      slot_(std::exchange(other.slot_, -1)),
      key_(other.key_),
      precision_(other.precision_),
      weights_(std::exchange(other.weights_, {})),
      error_(std::exchange(other.error_, nullptr)) {}

ExpertLease& ExpertLease::operator=(ExpertLease&& other) noexcept {
  std::swap(cache_, other.cache_);
  std::swap(slot_, other.slot_);
  std::swap(key_, other.key_);
  std::swap(precision_, other.precision_);
  std::swap(weights_, other.weights_);
  std::swap(error_, other.error_);
  return *this;
}

ExpertLease::~ExpertLease() {
  if (cache_) cache_->impl_->unpin(slot_);
}

// --- ExpertDemand ---

ExpertDemand::ExpertDemand(ExpertDemand&& other) noexcept
    : cache_(std::exchange(other.cache_, nullptr)) {}

ExpertDemand::~ExpertDemand() {
  if (cache_) cache_->impl_->close_demand();
}

std::vector<ExpertLease> ExpertDemand::next(std::vector<ExpertLease> storage) {
  HOB_CHECK(cache_ != nullptr);
  storage.clear();
  return cache_->impl_->next(*cache_, std::move(storage));
}

// --- ExpertCache ---

ExpertCache::ExpertCache(ExpertGeometry geometry, const Backend& backend,
                         const ExpertCacheOptions& options)
    : impl_(std::make_unique<Impl>(std::move(geometry), backend, options)) {}
ExpertCache::~ExpertCache() = default;

void ExpertCache::begin_sequence() { impl_->policy_->on_sequence_start(); }
void ExpertCache::begin_step() { impl_->begin_step(); }

ExpertDemand ExpertCache::demand(std::span<const ExpertWant> wants) {
  impl_->open_demand(wants);
  return ExpertDemand(this);
}

ExpertDemand ExpertCache::demand(std::span<const ExpertKey> keys) {
  std::vector<ExpertWant>& wants = impl_->wants_;
  wants.clear();
  for (const ExpertKey key : keys) wants.push_back({key, Want::kHigh});
  return demand(wants);
}

bool ExpertCache::prefetch(std::span<const ExpertWant> wants) { return impl_->prefetch(wants); }

void ExpertCache::preload(const std::function<void(uint64_t, uint64_t)>& progress) {
  impl_->preload(progress);
}

const ExpertGeometry& ExpertCache::geometry() const { return impl_->geometry_; }
uint64_t ExpertCache::total_bytes() const { return impl_->high().sizes.total; }
uint64_t ExpertCache::budget_bytes() const { return impl_->budget_bytes_; }
uint64_t ExpertCache::full_budget_bytes() const { return impl_->full_bytes_; }
uint64_t ExpertCache::least_budget_bytes() const { return impl_->least_bytes(); }
void ExpertCache::set_budget(uint64_t bytes) { impl_->set_budget(bytes); }
uint64_t ExpertCache::used_bytes() const {
  return impl_->used_bytes_.load(std::memory_order_relaxed);
}
bool ExpertCache::resident() const { return impl_->resident(); }

std::string ExpertCache::io_name() const {
  if (!impl_->loader_) return "none";
  const AsyncReader& reader = impl_->loader_->reader();
  return std::string(reader.name()) + (reader.direct(0) ? ", O_DIRECT" : ", buffered");
}

ExpertCacheStats ExpertCache::stats() const {
  const auto& s = impl_->stats_;
  ExpertCacheStats out;
  for (size_t i = 0; i < kNStats; i++) out.*kStats[i] = s[i].load(std::memory_order_relaxed);
  return out;
}

void ExpertCache::reset_stats() {
  for (auto& counter : impl_->stats_) counter.store(0, std::memory_order_relaxed);
}

uint64_t ExpertCache::staging_bytes(const ExpertGeometry& geometry,
                                    const ExpertCacheOptions& options) {
  return plan_staging(staging_needs(geometry), options.io_depth).total_bytes();
}

uint64_t ExpertCache::total_bytes(const ExpertGeometry& geometry, const Backend& backend,
                                  Precision precision) {
  return measure(layers_of(geometry, precision), make_layouts(geometry, backend, precision)).total;
}

uint64_t ExpertCache::smallest_budget(const ExpertGeometry& geometry, const Backend& backend,
                                      Precision precision) {
  return measure(layers_of(geometry, precision), make_layouts(geometry, backend, precision))
      .largest;
}

}  // namespace hob
