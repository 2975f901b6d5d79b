#pragma once
// The tokens behind a sequence's committed positions as far as they are known: a chain of full
// blocks in the prefix index (whose last node it refers to) and the tokens of the block that is
// not full yet.
#include <array>
#include <cstdint>
#include <span>

#include "kv/prefix_index.h"

namespace hob {

class TokenChain {
 public:
  int n_tok() const { return n_tok_; }
  int n_blocks() const { return n_tok_ / kKvBlock; }
  int32_t tip() const { return tip_; }  // node of the last full block

  // Appends as many of `tokens` as the present block takes; how many. The block is then full when
  // n_tok() is a multiple of kKvBlock, and close_block must follow.
  int append(std::span<const int32_t> tokens);
  // tip() becomes the full block's node. False: the index has no room; try again or
  // drop_open_block.
  bool close_block(PrefixIndex& index, uint64_t scope);
  void drop_open_block();
  // Forgets what is known of positions from n on.
  void cut(PrefixIndex& index, int n);
  // From empty: the chain that ends at `node`, or another chain's first n tokens.
  void start_at(PrefixIndex& index, int32_t node, int n_blocks);
  void start_as(PrefixIndex& index, const TokenChain& other, int n);

 private:
  int n_tok_ = 0;
  int32_t tip_ = PrefixIndex::kNone;
  std::array<int32_t, kKvBlock> rest_{};  // first n_tok % kKvBlock valid
};

}  // namespace hob
