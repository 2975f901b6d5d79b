// The I/O thread's side of the loader: what to read next, what came, what is finished.
#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "base/align.h"
#include "base/error.h"
#include "base/hash.h"
#include "experts/loader.h"

namespace hob {
namespace {

// A prefetch must not hold up a demand that comes a moment later: smaller pieces.
constexpr size_t kPrefetchReadBytes = size_t{512} << 10;

}  // namespace

void Loader::run() {
  pthread_setname_np(pthread_self(), "hob-experts");
  sigset_t all;  // signals belong to the threads that expect them
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  while (true) {
    fill();
    if (n_in_flight_ == 0 && stopping()) return;
    if (complete_.empty())
      for (const ReadDone& done : reader_->wait()) on_read(done);
    while (!complete_.empty()) {
      fill();  // first: the disk works while we permute
      const int index = complete_.front();
      complete_.pop_front();
      finish_transfer(index);
    }
  }
}

bool Loader::stopping() {
  std::lock_guard lock(mutex_);
  return stop_;
}

void Loader::fill() {
  obey();
  ops_.clear();
  while (n_in_flight_ < io_depth_) {
    if (prefetch_is_wanted() && issue(kPrefetch)) continue;
    if (issue(kDemand)) continue;
    if (demands_wait()) break;  // for a buffer
    if (lanes_[kPrefetch].n_in_flight >= (io_depth_ + 1) / 2 || !issue(kPrefetch)) break;
  }
  if (!ops_.empty()) reader_->submit(ops_);
}

// The prefetch under way was promoted.
bool Loader::prefetch_is_wanted() const {
  const Lane& lane = lanes_[kPrefetch];
  if (lane.filling >= 0) return !transfers_[static_cast<size_t>(lane.filling)].active->job.prefetch;
  return lane.current != active_.end() && !lane.current->job.prefetch;
}

bool Loader::demands_wait() {
  const Lane& lane = lanes_[kDemand];
  if (lane.filling >= 0 || lane.current != active_.end() || !again_.empty()) return true;
  std::lock_guard lock(mutex_);
  return !lane.queue.empty();
}

bool Loader::issue(size_t i) {
  Lane& lane = lanes_[i];
  if (lane.filling < 0 && !start_part(i)) return false;
  ops_.push_back(next_read(i));
  lane.n_in_flight++;
  n_in_flight_++;
  return true;
}

// Gives the next part, in the order of the queue, a transfer. False when there is no part or no
// buffer.
bool Loader::start_part(size_t i) {
  Lane& lane = lanes_[i];
  if (i == kDemand && !again_.empty()) {
    lane.filling = again_.front();
    again_.pop_front();
    return true;
  }
  if (lane.current == active_.end() && !take_job(lane)) return false;
  const LoadJob& job = lane.current->job;
  const bool slab = job.slab.n_bytes > 0;
  std::vector<int>& free = slab ? free_direct_ : free_staged_;
  // A prefetch leaves the last staging buffer to demands.
  const size_t keep = job.prefetch && !slab ? 1 : 0;
  if (free.size() <= keep) return false;
  lane.filling = free.back();
  free.pop_back();
  Transfer& transfer = transfers_[static_cast<size_t>(lane.filling)];
  transfer.active = lane.current;
  transfer.part = lane.current->next_part++;
  transfer.segment = transfer.n_issued = 0;
  transfer.done = false;
  if (slab) {
    transfer.data = job.slab.dst;
    transfer.n_segments = 1;
    transfer.segments[0] = {.file = job.slab.file,
                            .offset = job.slab.offset,
                            .head = 0,
                            .n_required = job.slab.n_bytes,
                            .n_total = job.slab.n_bytes,
                            .at = 0};
  } else {
    cut(job.slices[transfer.part].reads, transfer);
  }
  if (lane.current->next_part == job.n_parts()) lane.current = active_.end();
  return true;
}

// One segment per range, side by side in the staging buffer.
void Loader::cut(const ExpertReads& reads, Transfer& transfer) const {
  transfer.n_segments = 0;
  size_t at = 0;
  for (const ByteRange& r : reads.ranges()) {
    Segment& s = transfer.segments[transfer.n_segments++];
    s.file = r.file;
    s.head = r.offset % kIoAlign;
    s.offset = r.offset - s.head;
    s.n_required = s.head + r.n_bytes;
    s.n_total = round_up(s.n_required, kIoAlign);
    s.at = at;
    at += s.n_total;
  }
  HOB_CHECK(at <= plan_.buffer_bytes);
}

bool Loader::take_job(Lane& lane) {
  std::lock_guard lock(mutex_);
  if (stop_ || lane.queue.empty()) return false;
  Active active;
  active.job = lane.queue.front();
  active.n_left = active.job.n_parts();
  lane.current = active_.insert(active_.end(), std::move(active));
  lane.queue.pop_front();
  return true;
}

ReadOp Loader::next_read(size_t i) {
  Lane& lane = lanes_[i];
  Transfer& transfer = transfers_[static_cast<size_t>(lane.filling)];
  const LoadJob& job = transfer.active->job;
  const Segment& segment = transfer.segments[transfer.segment];
  const size_t most =
      job.prefetch ? std::min(kPrefetchReadBytes, plan_.read_bytes) : plan_.read_bytes;
  ReadOp op;
  op.file = segment.file;
  op.offset = segment.offset + transfer.n_issued;
  op.n_bytes = std::min(most, segment.n_total - transfer.n_issued);
  op.n_required = std::min(op.n_bytes, segment.n_required - transfer.n_issued);
  op.dst = transfer.data + segment.at + transfer.n_issued;
  op.tag = static_cast<uint64_t>(lane.filling) * lanes_.size() + i;
  transfer.n_issued += op.n_bytes;
  transfer.n_in_flight++;
  if (transfer.n_issued == segment.n_total) {
    transfer.n_issued = 0;
    transfer.segment++;
  }
  if (transfer.all_issued()) lane.filling = -1;
  return op;
}

// Carries out promote() and cancel() for jobs that have reads started.
void Loader::obey() {
  if (!has_orders_.load(std::memory_order_acquire)) return;
  std::vector<int> cancelled, promoted;
  {
    std::lock_guard lock(mutex_);
    cancelled.swap(to_cancel_);
    promoted.swap(to_promote_);
    has_orders_.store(false, std::memory_order_relaxed);
  }
  // Orders for jobs that have finished meanwhile find nothing. A slot is not used again before its
  // result was taken, and orders are given before that.
  const auto find = [&](int slot) {
    return std::find_if(active_.begin(), active_.end(),
                        [&](const Active& a) { return a.job.slot == slot; });
  };
  for (int slot : promoted)
    if (const ActiveRef active = find(slot); active != active_.end()) active->job.prefetch = false;
  for (int slot : cancelled) {
    const ActiveRef active = find(slot);
    if (active == active_.end() || active->dropped || !active->job.prefetch) continue;
    active->cancelled = true;
    drop(active);
  }
}

// No further reads for this job; those in flight finish first.
void Loader::drop(ActiveRef active) {
  active->dropped = true;
  active->n_left -= active->job.n_parts() - active->next_part;
  active->next_part = active->job.n_parts();
  const auto stop = [&](int index) {
    Transfer& transfer = transfers_[static_cast<size_t>(index)];
    transfer.n_segments = transfer.segment;
    if (transfer.n_in_flight == 0) complete(index);
  };
  for (Lane& lane : lanes_) {
    if (lane.current == active) lane.current = active_.end();
    if (lane.filling < 0 || transfers_[static_cast<size_t>(lane.filling)].active != active)
      continue;
    stop(lane.filling);
    lane.filling = -1;
  }
  std::erase_if(again_, [&](int index) {
    const bool its = transfers_[static_cast<size_t>(index)].active == active;
    if (its) stop(index);
    return its;
  });
  if (active->n_left == 0) finish_job(active);
}

void Loader::complete(int index) {
  bool& done = transfers_[static_cast<size_t>(index)].done;
  if (!done) complete_.push_back(index);
  done = true;
}

void Loader::on_read(const ReadDone& done) {
  const int index = static_cast<int>(done.tag / lanes_.size());
  Transfer& transfer = transfers_[static_cast<size_t>(index)];
  Active& active = *transfer.active;
  n_in_flight_--;
  lanes_[done.tag % lanes_.size()].n_in_flight--;
  transfer.n_in_flight--;
  if (done.error && !active.dropped) {
    active.error = done.error;
    drop(transfer.active);  // the rest of the expert is of no use any more
  }
  if (transfer.n_in_flight == 0 && transfer.all_issued()) complete(index);
}

void Loader::finish_transfer(int index) {
  const Transfer& transfer = transfers_[static_cast<size_t>(index)];
  const ActiveRef active = transfer.active;
  if (!active->dropped) {
    if (active->job.slab.n_bytes > 0) {
      if (!check_slab(index)) return;
      active->n_bytes = active->job.slab.n_bytes;
    } else {
      const LoadSlice& slice = active->job.slices[transfer.part];
      try {
        prepare(slice, transfer);
        active->n_bytes += slice.reads.n_bytes();
      } catch (...) {
        active->error = std::current_exception();
      }
    }
  }
  (staged(index) ? free_staged_ : free_direct_).push_back(index);
  if (--active->n_left == 0) finish_job(active);
}

void Loader::prepare(const LoadSlice& slice, const Transfer& transfer) {
  const std::byte* stock = transfer.begin_of(0);
  if (slice.maker) {
    HOB_CHECK(row_bytes(slice.dtype, slice.cols) * static_cast<size_t>(slice.rows) <=
              plan_.made_bytes);
    std::array<const std::byte*, ExpertReads::kMost> read{};
    const size_t n = slice.reads.size();
    for (size_t i = 0; i < n; i++) read[i] = transfer.begin_of(i);
    slice.maker->make(slice.made_tensor, slice.first_row, slice.rows, {read.data(), n},
                      made_.data());
    stock = made_.data();
  }
  backend_.prepare(slice.dtype, slice.rows, slice.cols, stock, slice.dst);
}

// False: the slab differs from its hash and is read once more.
bool Loader::check_slab(int index) {
  Transfer& transfer = transfers_[static_cast<size_t>(index)];
  Active& active = *transfer.active;
  if (hash64({transfer.data, transfer.segments[0].n_total}) == active.job.slab.hash) return true;
  if (!active.reread) {
    active.reread = true;
    transfer.segment = transfer.n_issued = 0;
    transfer.done = false;
    again_.push_back(index);
    return false;
  }
  active.corrupt = true;
  active.error = std::make_exception_ptr(Error(
      Code::kDataLoss,
      fmt::format("[pack] slab at byte {}: expected its hash, the disk gave other bytes twice",
                  active.job.slab.offset)));
  return true;
}

void Loader::finish_job(ActiveRef active) {
  LoadResult result{.slot = active->job.slot,
                    .n_bytes = active->n_bytes,
                    .error = std::move(active->error),
                    .corrupt = active->corrupt,
                    .cancelled = active->cancelled};
  active_.erase(active);
  {
    std::lock_guard lock(mutex_);
    results_.push_back(std::move(result));
    has_results_.store(true, std::memory_order_release);
  }
  arrived_.notify_one();
}

}  // namespace hob
