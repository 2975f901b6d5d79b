#include "kv/block_pool.h"

#include "base/error.h"

namespace hob {

BlockPool::BlockPool(int n_blocks)
    : n_blocks_(n_blocks), n_free_(n_blocks), links_(static_cast<size_t>(n_blocks) + 2) {
  HOB_CHECK(n_blocks > 0);
  for (int32_t list : {empty_list(), cached_list()}) at(list).previous = at(list).next = list;
  for (int32_t b = n_blocks - 1; b >= 0; b--) insert_after(empty_list(), b);
}

BlockPool::Link& BlockPool::checked(int32_t block) {
  HOB_CHECK(block >= 0 && block < n_blocks_);
  return at(block);
}

void BlockPool::insert_after(int32_t place, int32_t block) {
  Link& l = at(block);
  l.previous = place;
  l.next = at(place).next;
  at(l.next).previous = block;
  at(place).next = block;
}

void BlockPool::unlink(int32_t block) {
  Link& l = at(block);
  at(l.previous).next = l.next;
  at(l.next).previous = l.previous;
  l.previous = l.next = kNone;
}

int32_t BlockPool::take() {
  HOB_CHECK(n_free_ > 0);
  const int32_t empty = at(empty_list()).next;
  const int32_t block = empty != empty_list() ? empty : at(cached_list()).next;
  hold(block);
  return block;
}

void BlockPool::hold(int32_t block) {
  Link& l = checked(block);
  if (l.n_refs++ > 0) return;
  unlink(block);
  n_free_--;
}

void BlockPool::release(int32_t block, bool keep_content) {
  Link& l = checked(block);
  HOB_CHECK(l.n_refs > 0);
  if (--l.n_refs > 0) return;
  n_free_++;
  insert_after(keep_content ? at(cached_list()).previous : empty_list(), block);
}

void BlockPool::discard(int32_t block) {
  if (checked(block).n_refs > 0) return;
  unlink(block);
  insert_after(empty_list(), block);
}

int32_t BlockPool::oldest_cached() const {
  const int32_t oldest = at(cached_list()).next;
  return oldest == cached_list() ? kNone : oldest;
}

}  // namespace hob
