#pragma once
// Finds the block that holds given content: the 16 tokens of the block and everything before them.
// A node is one such content: (parent node, 16 tokens), the first block's (scope, 16 tokens). A
// chained hash (parent's hash, tokens; the scope in the first) leads to candidates, and a candidate
// is the one meant only if its parent is the very node that the walk came from and its tokens are
// equal. So, by induction from the first block, no collision can ever serve the wrong block; it
// costs time only. The hash is seeded at random, so that no client can prepare collisions.
//
// A node outlives its block's eviction while children or sequences refer to it: the chain above a
// cached block stays comparable, also where a window has given the early blocks back, and a
// recomputed block makes its descendants reachable again. Ref: [VLLM] prefix caching (which trusts
// the hash).
//
// All memory is taken at the start.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace hob {

class PrefixIndex {
 public:
  static constexpr int32_t kNone = -1;
  using BlockTokens = std::span<const int32_t, kKvBlock>;

  // hash_bits < 64 truncates the hash: forced collisions for tests.
  PrefixIndex(int n_blocks, int n_nodes, uint64_t seed, int hash_bits = 64);

  // The node of `tokens` behind `parent` (kNone: they are the first block, of `scope`), or kNone.
  int32_t find(int32_t parent, uint64_t scope, BlockTokens tokens) const;
  // The same; makes the node where there is none, kNone when there is no room for it. The caller
  // has a reference to the result, to be released.
  int32_t add(int32_t parent, uint64_t scope, BlockTokens tokens);
  void hold(int32_t node);
  void release(int32_t node);

  int32_t parent(int32_t node) const { return at(node).parent; }
  BlockTokens tokens(int32_t node) const { return at(node).tokens; }
  int32_t block_of(int32_t node) const { return at(node).block; }
  int32_t node_of(int32_t block) const { return node_of_block_[static_cast<size_t>(block)]; }
  // From now on `node` is found in `block`. Neither may have another partner.
  void set_block(int32_t node, int32_t block);
  // The content of `block` cannot be found any more. False if it could not be.
  bool forget(int32_t block);

  int n_cached() const { return n_cached_; }  // blocks that can be found
  int n_nodes() const { return n_used_; }

 private:
  struct Node {
    uint64_t hash = 0;
    uint64_t scope = 0;  // of a first block; else 0
    int32_t parent = kNone;
    int32_t block = kNone;
    int32_t n_refs = 0;    // children and sequences
    int32_t next = kNone;  // in the bucket, or of the unused nodes
    std::array<int32_t, kKvBlock> tokens;
  };
  const Node& at(int32_t node) const { return nodes_[static_cast<size_t>(node)]; }
  Node& at(int32_t node) { return nodes_[static_cast<size_t>(node)]; }
  uint64_t hash(int32_t parent, uint64_t scope, BlockTokens tokens) const;
  int32_t find_hashed(uint64_t hash, int32_t parent, uint64_t scope, BlockTokens tokens) const;
  int32_t& bucket(uint64_t hash) { return buckets_[hash & (buckets_.size() - 1)]; }
  void remove_unused(int32_t node);

  uint64_t seed_;
  uint64_t hash_mask_;
  std::vector<Node> nodes_;
  std::vector<int32_t> buckets_;        // power of two; first node of each
  std::vector<int32_t> node_of_block_;  // kNone: cannot be found
  int32_t unused_ = kNone;              // list
  int n_used_ = 0;
  int n_cached_ = 0;
};

}  // namespace hob
