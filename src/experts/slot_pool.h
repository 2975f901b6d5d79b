#pragma once
// The slots' memory. One virtual region of n_slots times the largest expert; physical pages only
// where an expert was written, and never more than the budget. Engine thread only.
#include <cstdint>
#include <functional>
#include <vector>

#include "base/aligned_buffer.h"

namespace hob {

class SlotPool {
 public:
  // `uniform`: all experts have the same size, so that the region as a whole stays within the
  // budget (checked) and may use huge pages.
  SlotPool(int n_slots, uint64_t slot_bytes, uint64_t budget_bytes, bool uniform);

  int n_slots() const { return static_cast<int>(touched_.size()); }
  std::byte* data(int slot) { return memory_.data() + static_cast<uint64_t>(slot) * slot_bytes_; }

  // A free slot for an expert of `n_bytes`, or -1 when none is free or the budget has no room:
  // evict, give(), ask again.
  int take(uint64_t n_bytes);
  // The slot is empty now. Its pages stay until somebody else needs the room.
  void give(int slot);

  // Another budget, which what is taken must fit. Free slots return their pages to the system as
  // far as the budget wants it. A uniform pool that shrinks keeps its lowest slots: contents of
  // others move there, moved(from, to), so that what returns is whole huge pages. (Of a huge page
  // in use the kernel would keep every part until it runs out of memory, and khugepaged would fill
  // its holes again.) One huge page at the edge may exceed the budget.
  void set_budget(uint64_t budget_bytes, const std::function<void(int from, int to)>& moved);

  uint64_t held_bytes() const { return held_total_; }        // of the slots that are taken
  uint64_t touched_bytes() const { return touched_total_; }  // upper bound of physical memory

 private:
  void set_touched(int slot, uint64_t n_bytes);
  void compact(const std::function<void(int from, int to)>& moved);

  const uint64_t slot_bytes_;
  uint64_t budget_bytes_;
  const bool uniform_;
  AlignedBuffer memory_;
  std::vector<uint64_t>
      touched_;  // [slot] bytes from the slot's start that may be physically present
  uint64_t touched_total_ = 0, held_total_ = 0;
  std::vector<int>
      free_;  // a stack: the slot emptied last is reused first, its pages are there already
};

}  // namespace hob
