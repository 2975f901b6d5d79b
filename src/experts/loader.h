#pragma once
// Disk -> slot. Stock GGUF goes through staging buffers (disk -> staging -> kernel layout), slabs
// of a pack straight into their slot. One thread owns the reader and the staging buffers; the
// engine thread hands it jobs and takes results in the order of arrival. It knows nothing of
// experts, slots or policies.
//
// Two queues: what a step waits for, and prefetches. A prefetch is read piece by piece and only
// while no demand has pieces left, with at most half of the queue depth: a new demand waits for at
// most those pieces. promote() turns a prefetch into a demand, cancel() gives it up.
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "base/aligned_buffer.h"
#include "base/async_file.h"
#include "experts/expert_store.h"
#include "tensor/dtype.h"

namespace hob {

struct LoadSlice {
  DType dtype = DType::kF32;
  int rows = 0, cols = 0;
  ExpertReads reads;         // any alignment; without a maker one range, the stock rows
  std::byte* dst = nullptr;  // Backend::prepared_bytes(dtype, rows, cols) bytes, 64-byte aligned
  // Not null: makes the stock rows, rows [first_row, first_row + rows) of its tensor.
  const RowMaker* maker = nullptr;
  size_t made_tensor = 0;
  int64_t first_row = 0;
};

// A run of bytes that is read as it is; offset, n_bytes and dst are multiples of kIoAlign.
struct LoadSlab {
  int file = 0;
  uint64_t offset = 0, n_bytes = 0;  // n_bytes 0: the job has slices
  uint64_t hash = 0;                 // XXH3 (64 bits) of the bytes
  std::byte* dst = nullptr;
};

struct LoadJob {
  int slot = -1;  // the caller's name for it
  bool prefetch = false;
  std::array<LoadSlice, 3> slices;
  LoadSlab slab;
  size_t n_parts() const { return slab.n_bytes ? 1 : slices.size(); }
};

struct LoadResult {
  int slot = -1;
  uint64_t n_bytes = 0;      // read from disk, without alignment padding
  std::exception_ptr error;  // set: what is in the slot is worthless
  bool corrupt = false;      // the error is a slab that differs from its hash, read twice
  bool cancelled = false;    // given up by cancel(): worthless too, but no error
};

// Sizes of the staging memory, from the largest slice and the number of reads in flight.
struct StagingPlan {
  int n_buffers = 0;
  size_t buffer_bytes = 0;
  size_t read_bytes = 0;  // a slice is read in pieces of at most this
  size_t made_bytes = 0;  // where a maker's rows go before they are permuted
  uint64_t total_bytes() const {
    return static_cast<uint64_t>(n_buffers) * buffer_bytes + made_bytes;
  }
};
// needs.read 0: all jobs are slabs, nothing is staged.
StagingPlan plan_staging(const StagingNeeds& needs, int io_depth);

// All public functions: engine thread only.
class Loader {
 public:
  Loader(std::unique_ptr<AsyncReader> reader, const Backend& backend, const StagingPlan& plan,
         int io_depth);
  ~Loader();  // drops what is queued, waits for the reads in flight

  void enqueue(std::span<const LoadJob> jobs);
  // Takes back the jobs that no read was started for, demands and prefetches; they have no result.
  // Returns their slots.
  std::vector<int> cancel_queued();
  // One prefetch: true = taken back as above; false = a result will come, perhaps `cancelled`.
  bool cancel(int slot);
  // A step waits for this prefetch now.
  void promote(int slot);
  std::vector<LoadResult> poll();  // what has arrived, perhaps nothing
  std::vector<LoadResult> wait();  // at least one; some job must be outstanding

  const AsyncReader& reader() const { return *reader_; }

 private:
  // A job with reads started.
  struct Active {
    LoadJob job;
    size_t next_part = 0;  // first one without a transfer
    size_t n_left = 0;     // parts not yet finished
    uint64_t n_bytes = 0;
    std::exception_ptr error;
    bool dropped = false;  // by an error or cancel(): no further reads
    bool corrupt = false, cancelled = false, reread = false;
  };
  using ActiveRef = std::list<Active>::iterator;
  // A range on its way from disk.
  struct Segment {
    int file = 0;
    uint64_t offset = 0;    // aligned
    size_t head = 0;        // bytes before the range, because the read starts at an aligned offset
    size_t n_required = 0;  // head + range
    size_t n_total = 0;     // rounded up
    size_t at = 0;          // in the staging buffer
  };
  // A part on its way from disk.
  struct Transfer {
    std::byte* data = nullptr;
    ActiveRef active;
    size_t part = 0;
    std::array<Segment, ExpertReads::kMost> segments;
    size_t n_segments = 0, segment = 0;  // the one of which pieces are issued
    size_t n_issued = 0;                 // of it
    int n_in_flight = 0;
    bool done = false;  // in complete_, or was

    bool all_issued() const { return segment >= n_segments; }
    const std::byte* begin_of(size_t i) const { return data + segments[i].at + segments[i].head; }
  };
  // What is being started, for demands and for prefetches.
  struct Lane {
    std::deque<LoadJob> queue;  // guarded by mutex_
    ActiveRef current;          // job with parts still to start, or active_.end()
    int filling = -1;           // transfer with pieces still to issue
    size_t n_in_flight = 0;
  };
  static constexpr size_t kDemand = 0, kPrefetch = 1;

  void run();
  void fill();
  bool issue(size_t lane);
  bool start_part(size_t lane);
  void cut(const ExpertReads& reads, Transfer& transfer) const;
  bool take_job(Lane& lane);
  ReadOp next_read(size_t lane);
  bool prefetch_is_wanted() const;
  bool demands_wait();
  void obey();
  void drop(ActiveRef active);
  void complete(int transfer);
  void on_read(const ReadDone& done);
  void finish_transfer(int index);
  void prepare(const LoadSlice& slice, const Transfer& transfer);
  bool check_slab(int index);
  void finish_job(ActiveRef active);
  bool stopping();
  bool staged(int transfer) const { return transfer < plan_.n_buffers; }

  std::unique_ptr<AsyncReader> reader_;
  const Backend& backend_;
  const StagingPlan plan_;
  const size_t io_depth_;
  AlignedBuffer staging_;
  AlignedBuffer made_;  // I/O thread only

  // I/O thread only, but for Lane::queue.
  std::array<Lane, 2> lanes_;
  std::vector<Transfer> transfers_;  // the first plan_.n_buffers have a staging buffer
  std::vector<int> free_staged_, free_direct_;
  std::deque<int> complete_;  // transfers whose reads are all back
  std::deque<int> again_;     // slabs to read once more
  size_t n_in_flight_ = 0;
  std::list<Active> active_;
  std::vector<ReadOp> ops_;

  std::mutex mutex_;  // guards the rest and the queues
  std::condition_variable arrived_;
  std::vector<int> to_cancel_, to_promote_;
  std::vector<LoadResult> results_;
  bool stop_ = false;
  std::atomic<bool> has_orders_{false};   // lets fill() skip the lock
  std::atomic<bool> has_results_{false};  // lets poll() skip it

  std::thread thread_;  // last: uses all of the above
};

}  // namespace hob
