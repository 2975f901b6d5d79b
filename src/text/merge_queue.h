#pragma once
// The loop that SPM and BPE share: symbols in a chain, the best adjacent pair is joined until none
// is left.
#include <algorithm>
#include <cstdint>
#include <vector>

namespace hob {

struct MergeSymbol {
  uint32_t begin;  // bytes of the word
  uint32_t size;   // 0 once merged into its left neighbour
  int32_t prev;    // -1 = none
  int32_t next;
  int32_t id;  // the rule's own number for this symbol
};

struct MergeCandidate {
  double order;  // smaller is merged earlier; ties go to the left
  int32_t left;
  int32_t right;
  uint32_t size;  // of both together, tells a stale entry
  int32_t id;     // of the merged symbol
};

// Reused between words to spare allocations. O(n log n) in the symbols of a word.
class MergeQueue {
 public:
  std::vector<MergeSymbol>& symbols() { return symbols_; }

  // Starts a word: append the symbols in order with add(), then run().
  void clear() { symbols_.clear(); }
  void add(uint32_t begin, uint32_t size, int32_t id) {
    const auto i = static_cast<int32_t>(symbols_.size());
    if (i > 0) symbols_.back().next = i;
    symbols_.push_back({begin, size, i - 1, -1, id});
  }

  // rule(left, right, candidate) -> bool fills order and id where the two may merge.
  template <class Rule>
  void run(Rule&& rule) {
    heap_.clear();
    for (size_t i = 1; i < symbols_.size(); ++i) {
      push(static_cast<int32_t>(i) - 1, static_cast<int32_t>(i), rule);
    }
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const MergeCandidate best = heap_.back();
      heap_.pop_back();
      MergeSymbol& left = at(best.left);
      MergeSymbol& right = at(best.right);
      if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
      left.size = best.size;
      left.id = best.id;
      left.next = right.next;
      right.size = 0;
      if (right.next >= 0) at(right.next).prev = best.left;
      push(left.prev, best.left, rule);
      push(best.left, left.next, rule);
    }
  }

 private:
  static bool later(const MergeCandidate& a, const MergeCandidate& b) {
    return a.order != b.order ? a.order > b.order : a.left > b.left;
  }
  MergeSymbol& at(int32_t i) { return symbols_[static_cast<size_t>(i)]; }

  template <class Rule>
  void push(int32_t left, int32_t right, Rule&& rule) {
    if (left < 0 || right < 0) return;
    MergeCandidate candidate{0.0, left, right, at(left).size + at(right).size, 0};
    if (!rule(at(left), at(right), candidate)) return;
    heap_.push_back(candidate);
    std::push_heap(heap_.begin(), heap_.end(), later);
  }

  std::vector<MergeSymbol> symbols_;
  std::vector<MergeCandidate> heap_;
};

}  // namespace hob
