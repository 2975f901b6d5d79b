#include "experts/loader.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "base/error.h"

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

size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

StagingPlan plan_staging(uint64_t largest_slice_bytes, int io_depth) {
  StagingPlan plan;
  // Up to kIoAlign - 1 bytes before the slice and as many after it.
  plan.buffer_bytes = round_up(static_cast<size_t>(largest_slice_bytes), kIoAlign) + 2 * kIoAlign;
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
      staging_(plan.total_bytes()),
      buffers_(static_cast<size_t>(plan.n_buffers)) {
  for (int i = 0; i < plan.n_buffers; i++) {
    buffers_[static_cast<size_t>(i)].data =
        staging_.data() + static_cast<size_t>(i) * plan.buffer_bytes;
    free_buffers_.push_back(i);
  }
  thread_ = std::thread([this] { run(); });
}

Loader::~Loader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    queue_.clear();
  }
  reader_->wake();
  thread_.join();
}

void Loader::enqueue(std::span<const LoadJob> jobs) {
  if (jobs.empty()) return;
  {
    std::lock_guard lock(mutex_);
    queue_.insert(queue_.end(), jobs.begin(), jobs.end());
  }
  reader_->wake();
}

std::vector<int> Loader::cancel_queued() {
  std::vector<int> slots;
  std::lock_guard lock(mutex_);
  for (const LoadJob& job : queue_) slots.push_back(job.slot);
  queue_.clear();
  return slots;
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

// --- I/O thread ---

void Loader::run() {
  pthread_setname_np(pthread_self(), "hob-experts");
  sigset_t all;  // signals belong to the threads that expect them
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  while (true) {
    fill();
    if (n_in_flight_ == 0 && stopping()) return;
    for (const ReadDone& done : reader_->wait()) on_read(done);
    while (!complete_.empty()) {
      fill();  // first: the disk works while we permute
      finish_buffer(complete_.front());
      complete_.pop_front();
    }
  }
}

bool Loader::stopping() {
  std::lock_guard lock(mutex_);
  return stop_;
}

void Loader::fill() {
  ops_.clear();
  while (n_in_flight_ < io_depth_ && (filling_ >= 0 || start_slice())) {
    ops_.push_back(next_read());
    n_in_flight_++;
  }
  if (!ops_.empty()) reader_->submit(ops_);
}

// Gives the next slice, in the order of the queue, a buffer. False when there is no slice or no
// buffer.
bool Loader::start_slice() {
  if (free_buffers_.empty()) return false;
  if (current_ == active_.end()) {
    std::lock_guard lock(mutex_);
    if (stop_ || queue_.empty()) return false;
    current_ = active_.insert(active_.end(),
                              Active{.job = queue_.front(), .n_bytes = 0, .error = nullptr});
    queue_.pop_front();
  }
  filling_ = free_buffers_.back();
  free_buffers_.pop_back();
  Buffer& buffer = buffers_[static_cast<size_t>(filling_)];
  buffer.active = current_;
  buffer.slice = current_->next_slice++;
  const LoadSlice& slice = current_->job.slices[buffer.slice];
  buffer.head = slice.offset % kIoAlign;
  buffer.n_required = buffer.head + slice.n_bytes;
  buffer.n_total = round_up(buffer.n_required, kIoAlign);
  buffer.n_issued = 0;
  HOB_CHECK(buffer.n_total <= plan_.buffer_bytes);
  if (current_->next_slice == current_->job.slices.size()) current_ = active_.end();
  return true;
}

ReadOp Loader::next_read() {
  Buffer& buffer = buffers_[static_cast<size_t>(filling_)];
  const LoadSlice& slice = buffer.active->job.slices[buffer.slice];
  ReadOp op;
  op.file = slice.file;
  op.offset = slice.offset - buffer.head + buffer.n_issued;
  op.n_bytes = std::min(plan_.read_bytes, buffer.n_total - buffer.n_issued);
  op.n_required = std::min(op.n_bytes, buffer.n_required - buffer.n_issued);
  op.dst = buffer.data + buffer.n_issued;
  op.tag = static_cast<uint64_t>(filling_);
  buffer.n_issued += op.n_bytes;
  buffer.n_in_flight++;
  if (buffer.n_issued == buffer.n_total) filling_ = -1;
  return op;
}

void Loader::on_read(const ReadDone& done) {
  const int index = static_cast<int>(done.tag);
  Buffer& buffer = buffers_[done.tag];
  Active& active = *buffer.active;
  n_in_flight_--;
  buffer.n_in_flight--;
  if (done.error && !active.error) {
    active.error = done.error;
    // The rest of the expert is of no use any more.
    active.n_left -= active.job.slices.size() - active.next_slice;
    active.next_slice = active.job.slices.size();
    if (current_ == buffer.active) current_ = active_.end();
    if (filling_ >= 0 && buffers_[static_cast<size_t>(filling_)].active == buffer.active) {
      Buffer& partial = buffers_[static_cast<size_t>(filling_)];
      partial.n_issued = partial.n_total;
      if (filling_ != index && partial.n_in_flight == 0) complete_.push_back(filling_);
      filling_ = -1;
    }
  }
  if (buffer.n_in_flight == 0 && buffer.n_issued == buffer.n_total) complete_.push_back(index);
}

void Loader::finish_buffer(int index) {
  const Buffer& buffer = buffers_[static_cast<size_t>(index)];
  const ActiveRef active = buffer.active;
  if (!active->error) {
    const LoadSlice& slice = active->job.slices[buffer.slice];
    try {
      backend_.prepare(slice.dtype, slice.rows, slice.cols, buffer.data + buffer.head, slice.dst);
      active->n_bytes += slice.n_bytes;
    } catch (...) {
      active->error = std::current_exception();
    }
  }
  free_buffers_.push_back(index);
  if (--active->n_left == 0) finish_job(active);
}

void Loader::finish_job(ActiveRef active) {
  LoadResult result{
      .slot = active->job.slot, .n_bytes = active->n_bytes, .error = std::move(active->error)};
  active_.erase(active);
  {
    std::lock_guard lock(mutex_);
    results_.push_back(std::move(result));
    has_results_.store(true, std::memory_order_release);
  }
  arrived_.notify_one();
}

}  // namespace hob
