#pragma once
// The expert cache: byte-budgeted slots, filled by the loader, handed out as leases.
//
//   ExpertDemand demand = cache.demand(keys);   // hits are pinned at once, misses queued to the
//                                               // loader
//   std::vector<ExpertLease> ready;
//   while (true) {
//     ready = demand.next(std::move(ready));    // ends the old leases: the next wave can load;
//                                               // blocks until at least one more expert is there
//     if (ready.empty()) break;                 // all keys were handed out
//     ... compute with them; order of arrival ...
//   }
//
// When the keys need more bytes than the cache has, they come in waves: the next read starts as
// leases end. One slot (the largest expert) suffices for progress, as long as the caller drops its
// leases before calling next(). A read error lives in the lease (`error()`), never in the cache:
// other experts and later demands are unharmed. With a budget >= total_bytes() everything is
// resident after preload() and nothing streams: the same code path.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/async_file.h"
#include "experts/expert_store.h"
#include "experts/importance.h"

namespace hob {

struct ExpertWant {
  ExpertKey key;
  Want want = Want::kHigh;
};

struct ExpertCacheOptions {
  uint64_t budget_bytes = 0;  // slots only; staging buffers come on top (staging_bytes())
  uint64_t low_bytes = 0;     // the part of it for low-precision copies; 0 = they are not used
  // Every want in exactly its own version, whatever is there: for measuring what a mixed mode does
  // to the answers. Else the version depends on what happens to be cached.
  bool strict = false;
  std::string policy = "ewma-layer";  // a name of policy_table()
  int io_depth = 8;                   // reads in flight
  bool direct_io = true;              // O_DIRECT where the file system allows it
  bool use_uring = true;              // else a pool of pread threads
  // Tests: puts something between the loader and the disk. Empty = nothing.
  std::function<std::unique_ptr<AsyncReader>(std::unique_ptr<AsyncReader>)> wrap_reader;
};

struct ExpertCacheStats {
  uint64_t hits = 0, misses = 0;  // per (step, expert) use: each expert counts once per demand
  uint64_t low_hits = 0, low_misses = 0;  // of these, uses of the low-precision copy
  uint64_t skips = 0;                     // wanted kSkip and not present
  uint64_t prefetches = 0;                // reads started ahead
  uint64_t prefetches_used = 0;           // of these, wanted by the next demand of their layer
  uint64_t prefetches_late = 0;           // of these, still being read then
  uint64_t prefetch_bytes = 0;            // read for prefetches that nobody wanted
  uint64_t bytes_read = 0;                // from disk, without alignment padding
  uint64_t read_errors = 0;
  uint64_t stall_ns = 0;  // engine thread waiting in next()
  uint64_t evictions = 0;
};

class ExpertCache;

// Pins one resident expert. Movable RAII; engine thread only.
class ExpertLease {
 public:
  ExpertLease() = default;
  ExpertLease(ExpertLease&&) noexcept;
  ExpertLease& operator=(ExpertLease&&) noexcept;
  ~ExpertLease();
  ExpertKey key() const { return key_; }
  Precision precision() const { return precision_; }
  // Wanted kSkip and in no precision present: no weights, its term is dropped.
  bool skipped() const { return !error_ && slot_ < 0; }
  const Weight& weight(ExpertPart part) const { return weights_[part]; }
  // Set when the read failed: weights are empty, the caller fails the rows that needed this expert.
  const std::exception_ptr& error() const { return error_; }

 private:
  friend class ExpertCache;
  friend class ExpertDemand;
  ExpertCache* cache_ = nullptr;
  int slot_ = -1;
  ExpertKey key_;
  Precision precision_ = Precision::kHigh;
  std::array<Weight, 3> weights_;
  std::exception_ptr error_;
};

// One layer's experts of one step. Engine thread only; one at a time per cache. Destroying it early
// cancels the rest.
class ExpertDemand {
 public:
  ExpertDemand(ExpertDemand&&) noexcept;
  ~ExpertDemand();
  // Everything that is ready and not yet handed out (at most as many as leave the loader room to
  // work); blocks for the first. Empty = done. `storage`: a vector to reuse for the result; leases
  // in it end first.
  std::vector<ExpertLease> next(std::vector<ExpertLease> storage = {});

 private:
  friend class ExpertCache;
  explicit ExpertDemand(ExpertCache* cache) : cache_(cache) {}
  ExpertCache* cache_;
};

class ExpertCache {
 public:
  // Throws Error(kResourceExhausted), naming the smallest budget that works, if not even one expert
  // of the largest kind fits; Error(kIo) if a file cannot be opened.
  ExpertCache(ExpertGeometry geometry, const Backend& backend, const ExpertCacheOptions& options);
  ~ExpertCache();

  // `keys`: distinct, one layer. A new step begins with `begin_step()` (policy clock).
  void begin_step();
  // A new sequence: what policies count per sequence begins anew, the contents stay. Ref: [HOBBIT]
  // §3.4.
  void begin_sequence();
  // Which version serves a want (Ref: [HOBBIT] §3.2; research notes, hobbit §1.3): the high one
  // whenever it is there; for kHigh it is read; then the low one if it is there; for kLow it is
  // read; kSkip is skipped. Without low copies kLow means kHigh.
  ExpertDemand demand(std::span<const ExpertWant> wants);
  ExpertDemand demand(std::span<const ExpertKey> keys);  // all kHigh

  // Experts that a later layer will probably want. What is missing is read while no demand waits;
  // what is there is not evicted before that layer's demand. Wrong guesses are given up when it
  // opens. True: all is there (then it pays to look one layer further).
  bool prefetch(std::span<const ExpertWant> wants);

  // Loads experts until the budget is full, layer by layer round robin over experts; progress(done,
  // total) bytes. Called once before the first demand when everything fits (or to warm the cache).
  void preload(const std::function<void(uint64_t, uint64_t)>& progress);

  // Less memory, or more again: clamped to [least_budget_bytes(), full_budget_bytes()]. Shrinking
  // evicts what the policy can spare and returns its pages to the system before it comes back;
  // growing lets later demands fill the room. Engine thread, between steps: no demand is open, no
  // lease alive. Waits for the reads in flight when it shrinks.
  void set_budget(uint64_t bytes);

  const ExpertGeometry& geometry() const;
  uint64_t total_bytes() const;         // all experts, prepared
  uint64_t budget_bytes() const;        // at present
  uint64_t full_budget_bytes() const;   // as constructed
  uint64_t least_budget_bytes() const;  // one expert of the largest kind per precision in use
  uint64_t used_bytes() const;          // slots that hold an expert now; any thread
  bool resident() const;                // budget >= total, at present
  std::string io_name()
      const;  // "io_uring, O_DIRECT" | "pread, buffered" ...; "none" without experts
  ExpertCacheStats stats() const;  // any thread
  void reset_stats();

  // Bytes that the loader needs beside the slots (aligned staging buffers, ring). For the planner,
  // before construction.
  static uint64_t staging_bytes(const ExpertGeometry& geometry, const ExpertCacheOptions& options);
  static uint64_t total_bytes(const ExpertGeometry& geometry, const Backend& backend,
                              Precision precision = Precision::kHigh);
  // One expert of the largest kind.
  static uint64_t smallest_budget(const ExpertGeometry& geometry, const Backend& backend,
                                  Precision precision = Precision::kHigh);

 private:
  friend class ExpertLease;
  friend class ExpertDemand;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob
