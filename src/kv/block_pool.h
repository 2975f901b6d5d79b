#pragma once
// Which blocks are free, in which order they are taken, and how many sequences hold each of the
// others. Knows nothing of memory or tokens. Free blocks wait in one of two lists (doubly linked,
// inside one array, so that any block leaves in O(1)): blocks with nothing to keep are a stack (a
// short run touches little memory) and go first; blocks whose content is cached queue behind them,
// least recently used first. Ref: [VLLM] free block queue.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace hob {

class BlockPool {
 public:
  static constexpr int32_t kNone = -1;

  explicit BlockPool(int n_blocks);

  int n_blocks() const { return n_blocks_; }
  int n_free() const { return n_free_; }
  int refs(int32_t block) const { return at(block).n_refs; }

  // The next free block, with one reference; there must be one. What it held is lost.
  int32_t take();
  // One more reference; a free block leaves its list.
  void hold(int32_t block);
  // One reference less. The last one frees the block: keep_content queues it as most recently used.
  void release(int32_t block, bool keep_content);
  // The content of this block is worth nothing any more: if free, it is among the next to be taken.
  void discard(int32_t block);
  // The free block whose cached content is lost next, or kNone.
  int32_t oldest_cached() const;

 private:
  struct Link {
    int32_t n_refs = 0;
    int32_t previous = kNone, next = kNone;
  };
  // The lists are rings that go through an element of their own behind the blocks.
  int32_t empty_list() const { return n_blocks_; }
  int32_t cached_list() const { return n_blocks_ + 1; }
  const Link& at(int32_t block) const { return links_[static_cast<size_t>(block)]; }
  Link& at(int32_t block) { return links_[static_cast<size_t>(block)]; }
  Link& checked(int32_t block);
  void insert_after(int32_t place, int32_t block);
  void unlink(int32_t block);

  int n_blocks_;
  int n_free_;
  std::vector<Link> links_;  // [n_blocks + 2]
};

}  // namespace hob
