#include "experts/slot_pool.h"

#include "base/error.h"

namespace hob {

SlotPool::SlotPool(int n_slots, uint64_t slot_bytes, uint64_t budget_bytes, bool uniform)
    : slot_bytes_(slot_bytes),
      budget_bytes_(budget_bytes),
      uniform_(uniform),
      memory_(static_cast<uint64_t>(n_slots) * slot_bytes, /*huge_pages=*/uniform),
      touched_(static_cast<size_t>(n_slots), 0) {
  HOB_CHECK(!uniform || static_cast<uint64_t>(n_slots) * slot_bytes <= budget_bytes);
  for (int slot = n_slots - 1; slot >= 0; slot--) free_.push_back(slot);
}

int SlotPool::take(uint64_t n_bytes) {
  HOB_CHECK(n_bytes <= slot_bytes_);
  if (free_.empty()) return -1;
  const int slot = free_.back();
  if (!uniform_) {
    const auto fits = [&] {
      return touched_total_ - touched_[static_cast<size_t>(slot)] + n_bytes <= budget_bytes_;
    };
    for (size_t i = 0; i + 1 < free_.size() && !fits(); i++) set_touched(free_[i], 0);
    if (!fits()) return -1;
    set_touched(slot, n_bytes);
  }
  free_.pop_back();
  return slot;
}

void SlotPool::give(int slot) { free_.push_back(slot); }

void SlotPool::set_touched(int slot, uint64_t n_bytes) {
  uint64_t& touched = touched_[static_cast<size_t>(slot)];
  if (n_bytes < touched)
    memory_.discard(static_cast<uint64_t>(slot) * slot_bytes_ + n_bytes, touched - n_bytes);
  touched_total_ += n_bytes - touched;
  touched = n_bytes;
}

}  // namespace hob
