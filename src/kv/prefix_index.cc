#include "kv/prefix_index.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/hash.h"

namespace hob {

PrefixIndex::PrefixIndex(int n_blocks, int n_nodes, uint64_t seed, int hash_bits)
    : seed_(seed),
      hash_mask_(hash_bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << hash_bits) - 1),
      nodes_(static_cast<size_t>(n_nodes)),
      buckets_(std::bit_ceil(static_cast<size_t>(n_nodes) * 2), kNone),
      node_of_block_(static_cast<size_t>(n_blocks), kNone) {
  HOB_CHECK(n_nodes > 0 && hash_bits >= 0);
  for (int32_t i = n_nodes - 1; i >= 0; i--) {
    at(i).next = unused_;
    unused_ = i;
  }
}

uint64_t PrefixIndex::hash(int32_t parent, uint64_t scope, BlockTokens tokens) const {
  std::array<std::byte, sizeof(uint64_t) + kKvBlock * sizeof(int32_t)> bytes;
  const uint64_t chain = parent == kNone ? scope : at(parent).hash;
  std::memcpy(bytes.data(), &chain, sizeof(chain));
  std::memcpy(bytes.data() + sizeof(chain), tokens.data(), tokens.size_bytes());
  return hash64(bytes, seed_) & hash_mask_;
}

int32_t PrefixIndex::find_hashed(uint64_t hash, int32_t parent, uint64_t scope,
                                 BlockTokens tokens) const {
  const uint64_t root_scope = parent == kNone ? scope : 0;
  int32_t i = buckets_[hash & (buckets_.size() - 1)];
  for (; i != kNone; i = at(i).next) {
    const Node& n = at(i);
    if (n.hash == hash && n.parent == parent && n.scope == root_scope &&
        std::equal(tokens.begin(), tokens.end(), n.tokens.begin()))
      break;
  }
  return i;
}

int32_t PrefixIndex::find(int32_t parent, uint64_t scope, BlockTokens tokens) const {
  return find_hashed(hash(parent, scope, tokens), parent, scope, tokens);
}

int32_t PrefixIndex::add(int32_t parent, uint64_t scope, BlockTokens tokens) {
  const uint64_t h = hash(parent, scope, tokens);
  int32_t i = find_hashed(h, parent, scope, tokens);
  if (i == kNone) {
    if (unused_ == kNone) return kNone;
    i = unused_;
    Node& n = at(i);
    unused_ = n.next;
    n_used_++;
    n = {.hash = h,
         .scope = parent == kNone ? scope : 0,
         .parent = parent,
         .next = bucket(h),
         .tokens = {}};
    std::copy(tokens.begin(), tokens.end(), n.tokens.begin());
    bucket(h) = i;
    if (parent != kNone) at(parent).n_refs++;
  }
  at(i).n_refs++;
  return i;
}

void PrefixIndex::hold(int32_t node) {
  if (node != kNone) at(node).n_refs++;
}

void PrefixIndex::release(int32_t node) {
  if (node == kNone) return;
  HOB_CHECK(at(node).n_refs > 0);
  at(node).n_refs--;
  remove_unused(node);
}

// Removes a node that nothing refers to, then its parent if that was the last reason for it.
void PrefixIndex::remove_unused(int32_t node) {
  while (node != kNone && at(node).n_refs == 0 && at(node).block == kNone) {
    Node& n = at(node);
    int32_t* link = &bucket(n.hash);
    while (*link != node) link = &at(*link).next;
    *link = n.next;
    n.next = unused_;
    unused_ = node;
    n_used_--;
    node = n.parent;
    if (node != kNone) at(node).n_refs--;
  }
}

void PrefixIndex::set_block(int32_t node, int32_t block) {
  HOB_CHECK(at(node).block == kNone && node_of(block) == kNone);
  at(node).block = block;
  node_of_block_[static_cast<size_t>(block)] = node;
  n_cached_++;
}

bool PrefixIndex::forget(int32_t block) {
  const int32_t node = node_of(block);
  if (node == kNone) return false;
  node_of_block_[static_cast<size_t>(block)] = kNone;
  at(node).block = kNone;
  n_cached_--;
  remove_unused(node);
  return true;
}

}  // namespace hob
