// The engine thread's side of the loader; loader_io.cc is the I/O thread's.
#include "experts/loader.h"

#include <algorithm>

#include "base/align.h"
#include "base/error.h"
#include "base/thread.h"

namespace hob {
namespace {

// A slice (0.5 to 2 MB in fine-grained models) is one read. Medians of 9 interleaved 2 s runs on a
// virtual disk, on a 2-core machine busy with other work, so read differences below 10 % as noise
// (single runs spread by a factor of 2); slices of 1152 KiB, one expert in seven a hit, bytes read
// counted; three spare staging buffers except where said:
//   fio, random O_DIRECT reads of 1180 KiB, depth 8                           936 MiB/s
//   demands of 64 experts, depth 8                                            928
//   demands of 8 experts, depth 4 | 8 | 12      749 | 837 | 855  (the queue runs dry between them)
//   the same in reads of 512 KiB at depth 8 | 256 KiB at depth 16             770 | 648
//   the same with pread threads, depth 8                                      860
// Hence whole slices and a default depth of 8. Slices beyond this are cut, so that io_depth reads
// in flight do not need io_depth huge buffers.
constexpr size_t kReadBytes = size_t{2} << 20;

}  // namespace

StagingPlan plan_staging(const StagingNeeds& needs, int io_depth) {
  StagingPlan plan;
  plan.read_bytes = kReadBytes;
  if (needs.read == 0) return plan;
  plan.made_bytes = static_cast<size_t>(needs.made);
  plan.buffer_bytes = round_up(static_cast<size_t>(needs.read), kIoAlign);
  plan.read_bytes = std::min(kReadBytes, plan.buffer_bytes);
  const size_t in_flight = static_cast<size_t>(io_depth) * plan.read_bytes;
  // One more than are being read: it is permuted into its slot meanwhile. Three spare ones instead
  // of one were within the noise: 837 against 807 MiB/s (demands of 8), 928 against 933 (of 64).
  plan.n_buffers = static_cast<int>((in_flight + plan.buffer_bytes - 1) / plan.buffer_bytes) + 1;
  return plan;
}

Loader::Loader(std::unique_ptr<AsyncReader> reader, const Backend& backend, const StagingPlan& plan,
               int io_depth)
    : reader_(std::move(reader)),
      backend_(backend),
      plan_(plan),
      io_depth_(static_cast<size_t>(io_depth)),
      staging_(static_cast<size_t>(plan.n_buffers) * plan.buffer_bytes),
      made_(plan.made_bytes),
      // Slabs: as many as can be read at once, and as many being hashed.
      transfers_(static_cast<size_t>(plan.n_buffers) + 2 * io_depth_) {
  for (int i = 0; i < static_cast<int>(transfers_.size()); i++) {
    if (staged(i))
      transfers_[static_cast<size_t>(i)].data =
          staging_.data() + static_cast<size_t>(i) * plan.buffer_bytes;
    (staged(i) ? free_staged_ : free_direct_).push_back(i);
  }
  for (Lane& lane : lanes_) lane.current = active_.end();
  thread_ = start_thread("loading experts", [this] { run(); });
}

Loader::~Loader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    for (Lane& lane : lanes_) lane.queue.clear();
  }
  reader_->wake();
  thread_.join();
}

void Loader::enqueue(std::span<const LoadJob> jobs) {
  if (jobs.empty()) return;
  {
    std::lock_guard lock(mutex_);
    for (const LoadJob& job : jobs) lanes_[job.prefetch ? kPrefetch : kDemand].queue.push_back(job);
  }
  reader_->wake();
}

std::vector<int> Loader::cancel_queued() {
  std::vector<int> slots;
  std::lock_guard lock(mutex_);
  for (Lane& lane : lanes_) {
    for (const LoadJob& job : lane.queue) slots.push_back(job.slot);
    lane.queue.clear();
  }
  return slots;
}

bool Loader::cancel(int slot) {
  {
    std::lock_guard lock(mutex_);
    std::deque<LoadJob>& queue = lanes_[kPrefetch].queue;
    if (std::erase_if(queue, [&](const LoadJob& job) { return job.slot == slot; }) > 0) return true;
    to_cancel_.push_back(slot);
    has_orders_.store(true, std::memory_order_release);
  }
  reader_->wake();
  return false;
}

void Loader::promote(int slot) {
  {
    std::lock_guard lock(mutex_);
    std::deque<LoadJob>& queue = lanes_[kPrefetch].queue;
    const auto job =
        std::find_if(queue.begin(), queue.end(), [&](const LoadJob& j) { return j.slot == slot; });
    if (job != queue.end()) {
      job->prefetch = false;
      lanes_[kDemand].queue.push_back(*job);
      queue.erase(job);
    } else {
      to_promote_.push_back(slot);
      has_orders_.store(true, std::memory_order_release);
    }
  }
  reader_->wake();
}

std::vector<LoadResult> Loader::poll() {
  std::vector<LoadResult> results;
  if (!has_results_.load(std::memory_order_acquire)) return results;
  std::lock_guard lock(mutex_);
  results.swap(results_);
  has_results_.store(false, std::memory_order_relaxed);
  return results;
}

std::vector<LoadResult> Loader::wait() {
  std::vector<LoadResult> results;
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [&] { return !results_.empty(); });
  results.swap(results_);
  has_results_.store(false, std::memory_order_relaxed);
  return results;
}

}  // namespace hob
