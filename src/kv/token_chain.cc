#include "kv/token_chain.h"

#include <algorithm>

#include "base/error.h"

namespace hob {

int TokenChain::append(std::span<const int32_t> tokens) {
  const int at = n_tok_ % kKvBlock;
  const int n = std::min(kKvBlock - at, static_cast<int>(tokens.size()));
  std::copy_n(tokens.begin(), n, rest_.begin() + at);
  n_tok_ += n;
  return n;
}

bool TokenChain::close_block(PrefixIndex& index, uint64_t scope) {
  const int32_t node = index.add(tip_, scope, rest_);
  if (node == PrefixIndex::kNone) return false;
  index.release(tip_);  // its child refers to it now
  tip_ = node;
  return true;
}

void TokenChain::drop_open_block() { n_tok_ = (n_tok_ - 1) / kKvBlock * kKvBlock; }

void TokenChain::cut(PrefixIndex& index, int n) {
  if (n_tok_ <= n) return;
  for (int i = n_blocks(); i > n / kKvBlock; i--) {
    std::copy_n(index.tokens(tip_).begin(), kKvBlock, rest_.begin());
    const int32_t parent = index.parent(tip_);
    index.hold(parent);
    index.release(tip_);
    tip_ = parent;
  }
  n_tok_ = n;
}

void TokenChain::start_at(PrefixIndex& index, int32_t node, int n_blocks) {
  HOB_CHECK(n_tok_ == 0);
  index.hold(node);
  tip_ = node;
  n_tok_ = n_blocks * kKvBlock;
}

void TokenChain::start_as(PrefixIndex& index, const TokenChain& other, int n) {
  HOB_CHECK(n_tok_ == 0);
  *this = other;
  index.hold(tip_);
  cut(index, n);
}

}  // namespace hob
