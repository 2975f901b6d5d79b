#pragma once
// Disk -> staging buffer -> kernel layout in the slot. One thread owns the reader and the staging
// buffers; the engine thread hands it jobs in the order of need and takes results in the order of
// arrival. It knows nothing of experts, slots or policies: a copy in another precision or a
// prefetch is just another job.
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
#include "tensor/dtype.h"

namespace hob {

struct LoadSlice {
  DType dtype = DType::kF32;
  int rows = 0, cols = 0;
  int file = 0;
  uint64_t offset = 0, n_bytes = 0;  // in the file, any alignment
  std::byte* dst = nullptr;  // Backend::prepared_bytes(dtype, rows, cols) bytes, 64-byte aligned
};

struct LoadJob {
  int slot = -1;  // the caller's name for it
  std::array<LoadSlice, 3> slices;
};

struct LoadResult {
  int slot = -1;
  uint64_t n_bytes = 0;      // read from disk, without alignment padding
  std::exception_ptr error;  // set: what is in the slot is worthless
};

// Sizes of the staging memory, from the largest slice and the number of reads in flight.
struct StagingPlan {
  int n_buffers = 0;
  size_t buffer_bytes = 0;
  size_t read_bytes = 0;  // a slice is read in pieces of at most this
  uint64_t total_bytes() const { return static_cast<uint64_t>(n_buffers) * buffer_bytes; }
};
StagingPlan plan_staging(uint64_t largest_slice_bytes, int io_depth);

// All public functions: engine thread only.
class Loader {
 public:
  Loader(std::unique_ptr<AsyncReader> reader, const Backend& backend, const StagingPlan& plan,
         int io_depth);
  ~Loader();  // drops what is queued, waits for the reads in flight

  void enqueue(std::span<const LoadJob> jobs);
  // Takes back the jobs that no read was started for; they have no result. Returns their slots.
  std::vector<int> cancel_queued();
  std::vector<LoadResult> poll();  // what has arrived, perhaps nothing
  std::vector<LoadResult> wait();  // at least one; some job must be outstanding

  const AsyncReader& reader() const { return *reader_; }

 private:
  struct Active {
    LoadJob job;
    size_t next_slice = 0;  // first one without a buffer
    size_t n_left = 3;      // slices not yet finished
    uint64_t n_bytes = 0;
    std::exception_ptr error;
  };
  using ActiveRef = std::list<Active>::iterator;
  struct Buffer {
    std::byte* data = nullptr;
    ActiveRef active;
    size_t slice = 0;
    size_t head = 0;        // bytes before the slice, because the read starts at an aligned offset
    size_t n_required = 0;  // head + slice
    size_t n_total = 0;     // rounded up
    size_t n_issued = 0;
    int n_in_flight = 0;
  };

  void run();
  void fill();
  bool start_slice();
  ReadOp next_read();
  void on_read(const ReadDone& done);
  void finish_buffer(int index);
  void finish_job(ActiveRef active);
  bool stopping();

  std::unique_ptr<AsyncReader> reader_;
  const Backend& backend_;
  const StagingPlan plan_;
  const size_t io_depth_;
  AlignedBuffer staging_;

  // I/O thread only.
  std::vector<Buffer> buffers_;
  std::vector<int> free_buffers_;
  std::deque<int> complete_;  // buffers whose reads are all back
  int filling_ = -1;          // buffer with pieces still to issue
  size_t n_in_flight_ = 0;
  std::list<Active> active_;
  ActiveRef current_ = active_.end();  // job with slices still to start
  std::vector<ReadOp> ops_;

  std::mutex mutex_;  // guards the rest
  std::condition_variable arrived_;
  std::deque<LoadJob> queue_;
  std::vector<LoadResult> results_;
  bool stop_ = false;
  std::atomic<bool> has_results_{false};  // lets poll() skip the lock

  std::thread thread_;  // last: uses all of the above
};

}  // namespace hob
