#pragma once
// Insides of the cache. Everything here belongs to the engine thread, except the statistics; the
// only other thread is the loader's, and only jobs and results pass between them. So a hit takes no
// lock.
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
  bool wanted = false;  // the present demand has still to hand it out: not to be evicted
};

// The demand under way: each of its keys is in exactly one of pending, wanted & loading, ready,
// failed, or handed out.
struct DemandState {
  struct Failure {
    ExpertKey key;
    std::exception_ptr error;
  };
  bool open = false;
  std::vector<ExpertKey> pending;  // [next_pending, end): no slot yet
  size_t next_pending = 0;
  int n_loading = 0;
  std::vector<int> ready;  // slots, in order of arrival
  std::vector<Failure> failed;

  size_t n_pending() const { return pending.size() - next_pending; }
};

// Written by the engine thread, read by any.
struct AtomicStats {
  std::atomic<uint64_t> hits{0}, misses{0}, bytes_read{0}, read_errors{0}, stall_ns{0},
      evictions{0};
};

struct ExpertCache::Impl {
  Impl(ExpertGeometry geometry, const Backend& backend, const ExpertCacheOptions& options);
  ~Impl();

  void open_demand(std::span<const ExpertKey> keys);
  void close_demand();
  std::vector<ExpertLease> next(ExpertCache& cache, std::vector<ExpertLease> leases);
  void unpin(int slot);
  void preload(const std::function<void(uint64_t, uint64_t)>& progress);

  // --- steps of the above ---
  void start_loader(const Backend& backend, const ExpertCacheOptions& options);
  size_t dense_id(ExpertKey key) const;
  ExpertLease make_lease(ExpertCache& cache, int slot);
  // Gives pending keys slots and queues their reads, as far as there is room.
  void pump();
  int make_room(int layer);
  void assign(int slot, ExpertKey key);
  LoadJob make_job(int slot);
  void apply(std::vector<LoadResult> results);
  void empty_slot(int slot);
  void refresh(int slot);  // evictable_ after a change
  void set_evictable(int slot, bool evictable);  // here and in the policy
  void wait_for_arrival();
  size_t hand_out_limit() const;
  std::vector<ExpertKey> preload_order() const;

  ExpertGeometry geometry_;
  const uint64_t budget_bytes_;
  std::vector<ExpertLayout> layouts_;  // [layer]
  ExpertSizes sizes_;
  std::vector<int32_t> first_id_;   // [layer] dense id of its expert 0
  std::vector<int32_t> slot_of_;    // [dense id] or -1
  std::vector<SlotInfo> slots_;     // [slot]
  std::vector<int32_t> expert_of_;  // [slot] dense id or -1   } the policy's view: contiguous
  std::vector<uint8_t> evictable_;  // [slot]                  }
  std::unique_ptr<ExpertPolicy> policy_;
  std::unique_ptr<SlotPool> pool_;
  int64_t step_ = 0;
  int n_loading_ = 0;  // slots in state kLoading, wanted or not
  int n_pinned_ = 0;   // leases alive
  DemandState demand_;
  std::vector<LoadJob> jobs_;  // scratch of pump()
  std::atomic<uint64_t> used_bytes_{0};
  AtomicStats stats_;
  std::unique_ptr<Loader> loader_;  // last: its thread writes into pool_
};

}  // namespace hob
