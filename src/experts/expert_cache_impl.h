#pragma once
// Insides of the cache. Everything here belongs to the engine thread, except the statistics; the
// only other thread is the loader's, and only jobs and results pass between them. So a hit takes no
// lock.
//
// A tier holds one precision: its own slots and budget. The default gives the low tier a
// small ring only: in replays of recorded routing, memory spent on high copies (which serve every
// want) saved more bytes than any larger low tier (research notes, hobbit §1.7).
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "experts/expert_cache.h"
#include "experts/expert_layout.h"
#include "experts/loader.h"
#include "experts/policy.h"
#include "experts/slot_pool.h"

namespace hob {

enum class SlotState : uint8_t { kEmpty, kLoading, kReady };

struct SlotInfo {
  ExpertKey key;
  uint64_t n_bytes = 0;
  int32_t n_pins = 0;
  SlotState state = SlotState::kEmpty;
  bool wanted = false;     // the present demand has still to hand it out: not to be evicted
  bool predicted = false;  // a later layer's demand will probably want it: not to be evicted
  bool prefetch = false;   // was read (or is being read) because of a prediction nobody used yet
};

// Slots of one precision: global numbers [first_slot, first_slot + n_slots).
struct Tier {
  Precision precision = Precision::kHigh;
  uint64_t budget_bytes = 0, full_bytes = 0;  // now, and as constructed
  std::vector<ExpertLayout> layouts;          // [layer]
  ExpertSizes sizes;
  int first_slot = 0, n_slots = 0;
  int n_usable = 0;              // slots that the present budget has room for, about
  std::vector<int32_t> slot_of;  // [dense id] global slot or -1
  std::unique_ptr<SlotPool> pool;

  uint64_t least_bytes() const { return n_slots > 0 ? sizes.largest : 0; }
  std::byte* data(int slot) { return pool->data(slot - first_slot); }
};

// The demand under way: each of its wants is in exactly one of pending, wanted & loading, ready,
// failed, or handed out.
struct DemandState {
  struct Pending {
    ExpertKey key;
    Precision precision;
  };
  struct Failure {
    ExpertKey key;
    Precision precision;
    std::exception_ptr error;
  };
  bool open = false;
  int layer = -1;
  std::vector<Pending> pending;  // [next_pending, end): no slot yet
  size_t next_pending = 0;
  int n_loading = 0;
  std::vector<int> ready;  // slots, in order of arrival
  std::vector<Failure> failed;
  std::vector<ExpertKey> skipped;

  size_t n_pending() const { return pending.size() - next_pending; }
};

// Counters: written by the engine thread, read by any.
inline constexpr std::array kStats = {&ExpertCacheStats::hits,
                                      &ExpertCacheStats::misses,
                                      &ExpertCacheStats::low_hits,
                                      &ExpertCacheStats::low_misses,
                                      &ExpertCacheStats::skips,
                                      &ExpertCacheStats::prefetches,
                                      &ExpertCacheStats::prefetches_used,
                                      &ExpertCacheStats::prefetches_late,
                                      &ExpertCacheStats::prefetch_bytes,
                                      &ExpertCacheStats::bytes_read,
                                      &ExpertCacheStats::read_errors,
                                      &ExpertCacheStats::stall_ns,
                                      &ExpertCacheStats::evictions};
inline constexpr size_t kNStats = kStats.size();

struct ExpertCache::Impl {
  Impl(ExpertGeometry geometry, const Backend& backend, const ExpertCacheOptions& options);
  ~Impl();

  void begin_step();
  void open_demand(std::span<const ExpertWant> wants);
  void close_demand();
  std::vector<ExpertLease> next(ExpertCache& cache, std::vector<ExpertLease> leases);
  void unpin(int slot);
  bool prefetch(std::span<const ExpertWant> wants);
  void preload(const std::function<void(uint64_t, uint64_t)>& progress);

  void set_budget(uint64_t bytes);
  uint64_t least_bytes() const { return tiers_[0].least_bytes() + tiers_[1].least_bytes(); }

  Tier& high() { return tiers_[0]; }
  bool resident() { return high().budget_bytes >= high().sizes.total; }

  // --- steps of the above: expert_cache_impl.cc ---
  void start_loader(const Backend& backend, const ExpertCacheOptions& options);
  size_t dense_id(ExpertKey key) const;
  struct Version {
    Tier* tier = nullptr;  // null: skip
    int slot = -1;         // -1: has to be read
  };
  Version choose_version(const ExpertWant& want);
  void demand_slot(int slot);
  ExpertLease make_lease(ExpertCache& cache, int slot);
  void wait_for_arrival();
  size_t hand_out_limit() const;
  void hand_out_failures(std::vector<ExpertLease>& leases);
  std::vector<ExpertKey> preload_order() const;
  template <uint64_t ExpertCacheStats::*Counter>
  void count(uint64_t n = 1) {
    constexpr auto i =
        static_cast<size_t>(std::find(kStats.begin(), kStats.end(), Counter) - kStats.begin());
    static_assert(i < kNStats);
    stats_[i].fetch_add(n, std::memory_order_relaxed);
  }

  // --- expert_slots.cc ---
  void make_tier(Tier& tier, uint64_t budget_bytes, const Backend& backend);
  PolicyShape policy_shape() const;
  int copy_of(int slot);  // the policy's name for what the slot holds
  Tier& tier_of(int slot) { return tiers_[slot >= tiers_[0].n_slots ? 1 : 0]; }
  SlotInfo& info(int slot) { return slots_[static_cast<size_t>(slot)]; }
  // Gives pending keys slots and queues their reads, as far as there is room.
  void pump();
  int make_room(Tier& tier, int layer);
  int take_slot(Tier& tier, int layer);
  bool evict_one(const Tier& tier, int layer);
  void resize_tier(Tier& tier, uint64_t bytes);
  void move_slot(Tier& tier, int from, int to);
  void assign(Tier& tier, int slot, ExpertKey key);
  LoadJob make_job(int slot);
  void apply(std::vector<LoadResult> results);
  void apply_one(LoadResult& result);
  void arrived(int slot);
  void empty_slot(int slot);
  void refresh(int slot);                        // evictable_ after a change
  void set_evictable(int slot, bool evictable);  // here and in the policy
  // Ends the protection of predicted experts of layers up to `layer`, and the reads of those that
  // the present demand does not want.
  void end_predictions(int layer);
  void cancel_prefetch(int slot);

  ExpertGeometry geometry_;
  const uint64_t full_bytes_;  // the budget as constructed
  uint64_t budget_bytes_;      // at present
  const bool strict_;
  std::vector<int32_t> first_id_;         // [layer] dense id of its expert 0
  std::array<Tier, 2> tiers_;             // [Precision]; the low one may have no slots
  std::vector<SlotInfo> slots_;           // [slot], both tiers
  std::vector<int32_t> expert_of_;        // [slot] dense id or -1
  std::vector<uint8_t> evictable_;        // [slot]
  std::unique_ptr<ExpertPolicy> policy_;  // of both tiers
  int64_t step_ = 0;
  int n_loading_ = 0;  // slots in state kLoading, wanted or not
  int n_pinned_ = 0;   // leases alive
  DemandState demand_;
  std::vector<int> predicted_;     // slots, in the order of the predictions
  std::vector<LoadJob> jobs_;      // scratch of pump() and prefetch()
  std::vector<ExpertWant> wants_;  // scratch of demand(keys)
  std::atomic<uint64_t> used_bytes_{0};
  std::array<std::atomic<uint64_t>, kNStats> stats_{};
  std::unique_ptr<Loader> loader_;  // last: its thread writes into the pools
};

}  // namespace hob
