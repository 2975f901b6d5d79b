#include "experts/slot_pool.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace hob {

SlotPool::SlotPool(int n_slots, uint64_t slot_bytes, uint64_t budget_bytes, bool uniform)
    : slot_bytes_(slot_bytes),
      budget_bytes_(budget_bytes),
      uniform_(uniform),
      memory_(static_cast<uint64_t>(n_slots) * slot_bytes, /*huge_pages=*/uniform),
      touched_(static_cast<size_t>(n_slots), 0) {
  HOB_CHECK(!uniform || static_cast<uint64_t>(n_slots) * slot_bytes <= budget_bytes);
  free_.reserve(static_cast<size_t>(n_slots));
  for (int slot = n_slots - 1; slot >= 0; slot--) free_.push_back(slot);
}

int SlotPool::take(uint64_t n_bytes) {
  HOB_CHECK(n_bytes <= slot_bytes_);
  if (free_.empty() || held_total_ + n_bytes > budget_bytes_) return -1;
  const int slot = free_.back();
  free_.pop_back();
  const uint64_t others = touched_total_ - touched_[static_cast<size_t>(slot)];
  uint64_t excess = others + n_bytes > budget_bytes_ ? others + n_bytes - budget_bytes_ : 0;
  for (size_t i = 0; i < free_.size() && excess > 0; i++) {
    excess -= std::min(excess, touched_[static_cast<size_t>(free_[i])]);
    set_touched(free_[i], 0);
  }
  set_touched(slot, n_bytes);
  held_total_ += n_bytes;
  return slot;
}

void SlotPool::give(int slot) {
  held_total_ -= touched_[static_cast<size_t>(slot)];
  free_.push_back(slot);
}

void SlotPool::set_budget(uint64_t budget_bytes,
                          const std::function<void(int from, int to)>& moved) {
  HOB_CHECK(held_total_ <= budget_bytes);
  budget_bytes_ = budget_bytes;
  if (touched_total_ <= budget_bytes) return;
  if (uniform_) compact(moved);
  // From now on the lowest free slot is taken first. A uniform pool never holds more slots than the
  // budget has room for, so it stays below those whose pages it has returned.
  std::sort(free_.begin(), free_.end(), std::greater<>());
  for (size_t i = 0; i < free_.size() && touched_total_ > budget_bytes; i++)
    set_touched(free_[i], 0);
}

void SlotPool::compact(const std::function<void(int from, int to)>& moved) {
  std::vector<bool> is_free(touched_.size(), false);
  for (const int slot : free_) is_free[static_cast<size_t>(slot)] = true;
  for (size_t low = 0, high = touched_.size(); low < high;) {
    if (!is_free[low]) {
      low++;
    } else if (is_free[high - 1]) {
      high--;
    } else {
      const int to = static_cast<int>(low), from = static_cast<int>(high - 1);
      set_touched(to, touched_[high - 1]);
      std::memcpy(data(to), data(from), touched_[high - 1]);
      set_touched(from, 0);
      is_free[low] = false;
      is_free[high - 1] = true;
      moved(from, to);
    }
  }
  free_.clear();
  for (size_t slot = 0; slot < is_free.size(); slot++)
    if (is_free[slot]) free_.push_back(static_cast<int>(slot));
}

void SlotPool::set_touched(int slot, uint64_t n_bytes) {
  uint64_t& touched = touched_[static_cast<size_t>(slot)];
  if (n_bytes < touched)
    memory_.discard(static_cast<uint64_t>(slot) * slot_bytes_ + n_bytes, touched - n_bytes);
  touched_total_ += n_bytes - touched;
  touched = n_bytes;
}

}  // namespace hob
