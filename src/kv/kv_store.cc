#include "kv/kv_store.h"

#include <algorithm>
#include <random>

#include "base/error.h"
#include "kv/block_pool.h"
#include "kv/kv_storage.h"
#include "kv/prefix_index.h"
#include "kv/token_chain.h"

namespace hob {
namespace {

uint64_t random_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

}  // namespace

struct KvStore::Impl {
  struct Sequence {
    bool live = false;
    uint64_t scope = 0;
    int n_committed = 0;
    int n_released = 0;           // blocks given back at the front; kNone in the table
    std::vector<int32_t> blocks;  // the table; those behind the committed ones are reserved
    std::vector<int32_t> slots;   // position -> slot; committed, then reserved
    TokenChain chain;             // of the first chain.n_tok() <= n_committed positions
  };
  struct Prefix {
    int32_t node = PrefixIndex::kNone;
    int n_blocks = 0;
  };

  Impl(KvGeometry geometry, int n_blocks, const PrefixOptions& options)
      : storage(std::move(geometry), n_blocks),
        pool(n_blocks),
        index(n_blocks, options.n_nodes > 0 ? options.n_nodes : 2 * n_blocks,
              options.seed ? *options.seed : random_seed(), options.hash_bits) {}

  Sequence& at(SeqId id);
  SeqId create(uint64_t scope);
  int32_t& block_at(Sequence& s, int i) { return s.blocks[static_cast<size_t>(i)]; }
  int32_t take_block();
  void drop_block(int32_t block) {
    pool.release(block, index.node_of(block) != PrefixIndex::kNone);
  }
  void forget_block(int32_t block);
  bool must_copy_last(const Sequence& s) const;
  int n_needed(const Sequence& s, int n_more) const;
  void own_last_block(Sequence& s);
  void cut(Sequence& s, int n);
  void commit(Sequence& s, int n, std::span<const int32_t> tokens);
  void learn(Sequence& s, std::span<const int32_t> tokens);
  bool close_block(Sequence& s);
  void cache_last_known(Sequence& s);
  int first_needed_block(int n_blocks) const;
  Prefix longest_prefix(uint64_t scope, std::span<const int32_t> tokens) const;
  void fill_slots(Sequence& s, int from, int to);

  KvStorage storage;
  BlockPool pool;
  PrefixIndex index;
  std::vector<Sequence> sequences;  // indexed by SeqId
  std::vector<SeqId> free_ids;
  PrefixStats stats;
};

KvStore::Impl::Sequence& KvStore::Impl::at(SeqId id) {
  HOB_CHECK(id >= 0 && static_cast<size_t>(id) < sequences.size());
  Sequence& s = sequences[static_cast<size_t>(id)];
  HOB_CHECK(s.live);
  return s;
}

// A freed sequence's vectors keep their memory for the next one.
SeqId KvStore::Impl::create(uint64_t scope) {
  SeqId id;
  if (free_ids.empty()) {
    id = static_cast<SeqId>(sequences.size());
    sequences.emplace_back();
  } else {
    id = free_ids.back();
    free_ids.pop_back();
  }
  Sequence& s = sequences[static_cast<size_t>(id)];
  s.live = true;
  s.scope = scope;
  return id;
}

int32_t KvStore::Impl::take_block() {
  const int32_t block = pool.take();
  if (index.forget(block)) stats.n_evicted++;
  return block;
}

void KvStore::Impl::forget_block(int32_t block) {
  if (index.forget(block)) pool.discard(block);
}

// The last block is written to next, and others hold it.
bool KvStore::Impl::must_copy_last(const Sequence& s) const {
  return s.n_committed % kKvBlock != 0 &&
         pool.refs(s.blocks[static_cast<size_t>(s.n_committed / kKvBlock)]) > 1;
}

int KvStore::Impl::n_needed(const Sequence& s, int n_more) const {
  if (n_more == 0) return 0;
  // 64 bits: n_more comes from a prompt's length.
  const int n_total = n_kv_blocks(static_cast<int64_t>(s.n_committed) + n_more);
  return std::max(0, n_total - static_cast<int>(s.blocks.size())) + (must_copy_last(s) ? 1 : 0);
}

// The block that the next position goes to becomes this sequence's alone, and unknown: its content
// is about to change.
void KvStore::Impl::own_last_block(Sequence& s) {
  if (s.n_committed % kKvBlock == 0) return;
  int32_t& last = block_at(s, s.n_committed / kKvBlock);
  if (pool.refs(last) > 1) {
    const int32_t own = take_block();
    storage.copy_block(last, own);
    drop_block(last);
    last = own;
    fill_slots(s, s.n_committed / kKvBlock * kKvBlock, s.n_committed);
  } else {
    forget_block(last);
  }
}

void KvStore::Impl::fill_slots(Sequence& s, int from, int to) {
  if (static_cast<int>(s.slots.size()) < to) s.slots.resize(static_cast<size_t>(to));
  for (int p = from; p < to; p++) {
    const int32_t block = block_at(s, p / kKvBlock);
    s.slots[static_cast<size_t>(p)] =
        block == BlockPool::kNone ? 0 : block * kKvBlock + p % kKvBlock;
  }
}

// Keeps the first n positions: blocks beyond them are freed, the tail first, and slots cut.
void KvStore::Impl::cut(Sequence& s, int n) {
  const int keep = n_kv_blocks(n);
  for (int i = static_cast<int>(s.blocks.size()) - 1; i >= keep; i--) {
    if (s.chain.n_tok() == (i + 1) * kKvBlock) cache_last_known(s);
    s.chain.cut(index, i * kKvBlock);
    const int32_t block = s.blocks.back();
    s.blocks.pop_back();
    if (block != BlockPool::kNone) drop_block(block);
  }
  s.chain.cut(index, n);
  s.n_released = std::min(s.n_released, keep);
  s.slots.resize(static_cast<size_t>(n));
}

// The last known block can be found from now on, unless another block with the same content can.
// (Two sequences that compute the same prompt at the same time both have one; when the one that was
// cached is gone, the other takes its place.)
void KvStore::Impl::cache_last_known(Sequence& s) {
  const int32_t block = block_at(s, s.chain.n_blocks() - 1);
  const int32_t node = s.chain.tip();
  if (block != BlockPool::kNone && index.block_of(node) == PrefixIndex::kNone &&
      index.node_of(block) == PrefixIndex::kNone)
    index.set_block(node, block);
}

// Where the index has no room, cached blocks make some, the oldest first.
bool KvStore::Impl::close_block(Sequence& s) {
  while (!s.chain.close_block(index, s.scope)) {
    const int32_t oldest = pool.oldest_cached();
    if (oldest == BlockPool::kNone) return false;
    forget_block(oldest);
    stats.n_evicted++;
  }
  return true;
}

void KvStore::Impl::commit(Sequence& s, int n, std::span<const int32_t> tokens) {
  HOB_CHECK(tokens.empty() || static_cast<int>(tokens.size()) == n);
  const bool known = s.chain.n_tok() == s.n_committed;
  s.n_committed += n;
  if (known) learn(s, tokens);
}

void KvStore::Impl::learn(Sequence& s, std::span<const int32_t> tokens) {
  while (!tokens.empty()) {
    tokens = tokens.subspan(static_cast<size_t>(s.chain.append(tokens)));
    if (s.chain.n_tok() % kKvBlock != 0) continue;
    if (!close_block(s)) {
      s.chain.drop_open_block();
      return;
    }
    cache_last_known(s);
  }
}

// The first block that the position behind n_blocks full blocks sees.
int KvStore::Impl::first_needed_block(int n_blocks) const {
  const int window = storage.geometry().window;
  if (window == 0) return 0;
  return std::max(0, n_blocks * kKvBlock - window + 1) / kKvBlock;
}

KvStore::Impl::Prefix KvStore::Impl::longest_prefix(uint64_t scope,
                                                    std::span<const int32_t> tokens) const {
  Prefix best;
  int32_t node = PrefixIndex::kNone;
  int n_run = 0;  // present blocks without a gap, up to here
  const int most = tokens.empty() ? 0 : static_cast<int>((tokens.size() - 1) / kKvBlock);
  for (int i = 0; i < most; i++) {
    node = index.find(node, scope,
                      tokens.subspan(static_cast<size_t>(i) * kKvBlock).first<kKvBlock>());
    if (node == PrefixIndex::kNone) break;
    n_run = index.block_of(node) == PrefixIndex::kNone ? 0 : n_run + 1;
    if (i + 1 - n_run <= first_needed_block(i + 1)) best = {node, i + 1};
  }
  return best;
}

KvStore::KvStore(KvGeometry geometry, int n_tokens, const PrefixOptions& prefix) {
  HOB_CHECK(n_tokens > 0 && geometry.window >= 0);
  impl_ = std::make_unique<Impl>(std::move(geometry), n_kv_blocks(n_tokens), prefix);
}

KvStore::~KvStore() = default;

uint64_t KvStore::bytes(const KvGeometry& geometry, int n_tokens) {
  return KvStorage::bytes(geometry, n_kv_blocks(n_tokens));
}

SeqId KvStore::create(uint64_t scope) { return impl_->create(scope); }

void KvStore::free(SeqId seq) {
  Impl::Sequence& s = impl_->at(seq);
  impl_->cut(s, 0);
  s.n_committed = 0;
  s.live = false;
  impl_->free_ids.push_back(seq);
}

std::optional<std::span<const int32_t>> KvStore::reserve(SeqId seq, int n) {
  HOB_CHECK(n >= 0);
  Impl& m = *impl_;
  Impl::Sequence& s = m.at(seq);
  if (m.n_needed(s, n) > m.pool.n_free()) return std::nullopt;
  if (n > 0) m.own_last_block(s);
  // An earlier reservation is replaced.
  const int n_total = s.n_committed + n;
  while (static_cast<int>(s.blocks.size()) > n_kv_blocks(n_total)) {
    m.drop_block(s.blocks.back());
    s.blocks.pop_back();
  }
  while (static_cast<int>(s.blocks.size()) < n_kv_blocks(n_total))
    s.blocks.push_back(m.take_block());
  s.slots.resize(static_cast<size_t>(n_total));
  m.fill_slots(s, s.n_committed, n_total);
  return std::span<const int32_t>(s.slots).subspan(static_cast<size_t>(s.n_committed));
}

void KvStore::commit(SeqId seq, int n, std::span<const int32_t> tokens) {
  Impl::Sequence& s = impl_->at(seq);
  HOB_CHECK(n >= 0 && static_cast<size_t>(s.n_committed + n) <= s.slots.size());
  impl_->cut(s, s.n_committed + n);
  impl_->commit(s, n, tokens);
}

void KvStore::commit_head(SeqId seq, int n, std::span<const int32_t> tokens) {
  Impl::Sequence& s = impl_->at(seq);
  HOB_CHECK(n >= 0 && static_cast<size_t>(s.n_committed + n) <= s.slots.size());
  impl_->commit(s, n, tokens);
}

void KvStore::compact(SeqId seq, std::span<const int32_t> keep) {
  Impl::Sequence& s = impl_->at(seq);
  const int32_t* reserved = s.slots.data() + s.n_committed;
  const auto n_reserved = static_cast<int32_t>(s.slots.size()) - s.n_committed;
  for (size_t i = 0; i < keep.size(); i++) {
    HOB_CHECK(keep[i] >= static_cast<int32_t>(i) && keep[i] < n_reserved &&
              (i == 0 || keep[i] > keep[i - 1]));
    if (keep[i] != static_cast<int32_t>(i))
      impl_->storage.copy_slot(reserved[keep[i]], reserved[i]);
  }
  impl_->cut(s, s.n_committed + static_cast<int>(keep.size()));
}

void KvStore::truncate(SeqId seq, int n) {
  Impl::Sequence& s = impl_->at(seq);
  HOB_CHECK(n >= 0 && n <= s.n_committed && (n == 0 || n >= s.n_released * kKvBlock));
  s.n_committed = n;
  impl_->cut(s, n);
}

std::optional<SeqId> KvStore::share(SeqId seq, int n) {
  Impl& m = *impl_;
  HOB_CHECK(n >= 0 && n <= m.at(seq).n_committed);
  HOB_CHECK(n == 0 || n >= m.at(seq).n_released * kKvBlock);
  const SeqId id = m.create(m.at(seq).scope);  // may move the sequences: look both up afterwards
  const Impl::Sequence& from = m.at(seq);
  Impl::Sequence& to = m.at(id);
  to.blocks.assign(from.blocks.begin(), from.blocks.begin() + n_kv_blocks(n));
  to.slots.assign(from.slots.begin(), from.slots.begin() + n);
  to.n_committed = n;
  to.n_released = n == 0 ? 0 : from.n_released;
  to.chain.start_as(m.index, from.chain, n);
  for (int32_t b : to.blocks)
    if (b != BlockPool::kNone) m.pool.hold(b);
  return id;
}

int KvStore::attach_prefix(SeqId seq, std::span<const int32_t> tokens) {
  Impl& m = *impl_;
  Impl::Sequence& s = m.at(seq);
  HOB_CHECK(s.n_committed == 0 && s.blocks.empty());
  const Impl::Prefix prefix = m.longest_prefix(s.scope, tokens);
  s.n_released = m.first_needed_block(prefix.n_blocks);
  s.blocks.assign(static_cast<size_t>(prefix.n_blocks), BlockPool::kNone);
  int32_t node = prefix.node;
  for (int i = prefix.n_blocks - 1; i >= s.n_released; i--, node = m.index.parent(node)) {
    m.block_at(s, i) = m.index.block_of(node);
    m.pool.hold(m.block_at(s, i));
  }
  s.chain.start_at(m.index, prefix.node, prefix.n_blocks);
  s.n_committed = prefix.n_blocks * kKvBlock;
  m.fill_slots(s, 0, s.n_committed);
  m.stats.n_query_tok += tokens.size();
  m.stats.n_hit_tok += static_cast<uint64_t>(s.n_committed);
  return s.n_committed;
}

int KvStore::cached_prefix(uint64_t scope, std::span<const int32_t> tokens) const {
  return impl_->longest_prefix(scope, tokens).n_blocks * kKvBlock;
}

void KvStore::clear_prefix_cache() {
  for (Impl::Sequence& s : impl_->sequences) s.chain.cut(impl_->index, 0);
  for (int b = 0; b < impl_->pool.n_blocks(); b++) impl_->forget_block(b);
}

void KvStore::release_before(SeqId seq, int position) {
  Impl& m = *impl_;
  Impl::Sequence& s = m.at(seq);
  HOB_CHECK(position <= s.n_committed);
  const int first = std::max(s.n_released, position / kKvBlock);
  for (int i = first - 1; i >= s.n_released; i--) {  // the tail first, as everywhere
    m.drop_block(m.block_at(s, i));
    m.block_at(s, i) = BlockPool::kNone;
  }
  const int from = s.n_released * kKvBlock;
  s.n_released = first;
  m.fill_slots(s, from, first * kKvBlock);
}

int KvStore::first_position(SeqId seq) const { return impl_->at(seq).n_released * kKvBlock; }
int KvStore::length(SeqId seq) const { return impl_->at(seq).n_committed; }
std::span<const int32_t> KvStore::slots(SeqId seq) const { return impl_->at(seq).slots; }

int KvStore::blocks_needed(SeqId seq, int n_more) const {
  HOB_CHECK(n_more >= 0);
  return impl_->n_needed(impl_->at(seq), n_more);
}

int KvStore::n_blocks() const { return impl_->pool.n_blocks(); }
int KvStore::n_free_blocks() const { return impl_->pool.n_free(); }
int KvStore::n_cached_blocks() const { return impl_->index.n_cached(); }
int KvStore::free_tokens() const { return n_free_blocks() * kKvBlock; }
const PrefixStats& KvStore::prefix_stats() const { return impl_->stats; }

KvLayer KvStore::layer(int i) const { return impl_->storage.layer(i); }
KvType KvStore::type() const { return impl_->storage.geometry().type; }

}  // namespace hob
