#include "kv/kv_store.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace hob {
namespace {

int n_blocks_for(int n_tokens) { return (n_tokens + kKvBlock - 1) / kKvBlock; }

// Bytes of one block of K (d = d_k) or V (d = d_v) of one layer.
size_t block_bytes(const KvLayerGeometry& layer, int d, KvType type) {
  return static_cast<size_t>(layer.n_kv_heads) * kv_block_bytes(type, d);
}

// K and V of a layer start on cache lines of their own.
size_t align64(size_t n) { return (n + 63) / 64 * 64; }

}  // namespace

uint64_t KvGeometry::bytes_per_token() const {
  uint64_t n = 0;
  for (const KvLayerGeometry& l : layers)
    n += block_bytes(l, l.d_k, type) + block_bytes(l, l.d_v, type);
  return n / kKvBlock;
}

// Blocks are reference counted. A block that more than one sequence holds is read-only: whoever
// wants to append to it gets a copy first (reserve). Free blocks form a stack with the lowest ids
// on top, so that a short run touches little memory.
struct KvStore::Impl {
  struct Sequence {
    bool live = false;
    int n_committed = 0;
    std::vector<int32_t> blocks;
    std::vector<int32_t> slots;  // position -> slot; committed, then reserved
  };
  struct LayerStorage {
    size_t k_offset = 0, v_offset = 0;
    size_t k_block_bytes = 0, v_block_bytes = 0;
  };

  KvGeometry geometry;
  int n_blocks = 0;
  AlignedBuffer storage;
  std::vector<LayerStorage> layers;
  std::vector<int> n_refs;           // per block
  std::vector<int32_t> free_blocks;  // stack
  std::vector<Sequence> sequences;   // indexed by SeqId
  std::vector<SeqId> free_ids;
  PrefixStats stats;

  Sequence& at(SeqId id) {
    HOB_CHECK(id >= 0 && static_cast<size_t>(id) < sequences.size());
    Sequence& seq = sequences[static_cast<size_t>(id)];
    HOB_CHECK(seq.live);
    return seq;
  }

  int32_t take_block() {
    const int32_t block = free_blocks.back();
    free_blocks.pop_back();
    n_refs[static_cast<size_t>(block)] = 1;
    return block;
  }

  void drop_block(int32_t block) {
    int& refs = n_refs[static_cast<size_t>(block)];
    HOB_CHECK(refs > 0);
    if (--refs == 0) free_blocks.push_back(block);
  }

  void copy_block(int32_t from, int32_t to) {
    const auto copy = [&](size_t base, size_t bytes) {
      std::byte* p = storage.data() + base;
      std::memcpy(p + static_cast<size_t>(to) * bytes, p + static_cast<size_t>(from) * bytes,
                  bytes);
    };
    for (const LayerStorage& l : layers) {
      copy(l.k_offset, l.k_block_bytes);
      copy(l.v_offset, l.v_block_bytes);
    }
  }

  // Keeps the first n positions: blocks beyond them are freed, slots cut.
  void cut(Sequence& seq, int n) {
    const size_t keep = static_cast<size_t>(n_blocks_for(n));
    while (seq.blocks.size() > keep) {  // tail first
      drop_block(seq.blocks.back());
      seq.blocks.pop_back();
    }
    seq.slots.resize(static_cast<size_t>(n));
  }

  void fill_slots(Sequence& seq, int from, int to) {
    seq.slots.resize(static_cast<size_t>(to));
    for (int p = from; p < to; p++)
      seq.slots[static_cast<size_t>(p)] =
          seq.blocks[static_cast<size_t>(p / kKvBlock)] * kKvBlock + p % kKvBlock;
  }
};

KvStore::KvStore(KvGeometry geometry, int n_tokens, const PrefixOptions&)
    : impl_(std::make_shared<Impl>()) {
  HOB_CHECK(n_tokens > 0);
  Impl& m = *impl_;
  m.n_blocks = n_blocks_for(n_tokens);
  // Huge pages: the plan counts every byte of it.
  m.storage = AlignedBuffer(bytes(geometry, n_tokens), /*huge_pages=*/true);
  size_t offset = 0;
  for (const KvLayerGeometry& l : geometry.layers) {
    Impl::LayerStorage s;
    s.k_block_bytes = block_bytes(l, l.d_k, geometry.type);
    s.v_block_bytes = block_bytes(l, l.d_v, geometry.type);
    s.k_offset = offset;
    offset += align64(s.k_block_bytes * static_cast<size_t>(m.n_blocks));
    s.v_offset = offset;
    offset += align64(s.v_block_bytes * static_cast<size_t>(m.n_blocks));
    m.layers.push_back(s);
  }
  m.geometry = std::move(geometry);
  m.n_refs.assign(static_cast<size_t>(m.n_blocks), 0);
  for (int b = m.n_blocks - 1; b >= 0; b--) m.free_blocks.push_back(b);
}

uint64_t KvStore::bytes(const KvGeometry& geometry, int n_tokens) {
  const size_t n_blocks = static_cast<size_t>(n_blocks_for(n_tokens));
  uint64_t n = 0;
  for (const KvLayerGeometry& l : geometry.layers)
    n += align64(block_bytes(l, l.d_k, geometry.type) * n_blocks) +
         align64(block_bytes(l, l.d_v, geometry.type) * n_blocks);
  return n;
}

SeqId KvStore::create(uint64_t) {
  Impl& m = *impl_;
  SeqId id;
  if (m.free_ids.empty()) {
    id = static_cast<SeqId>(m.sequences.size());
    m.sequences.emplace_back();
  } else {
    id = m.free_ids.back();
    m.free_ids.pop_back();
  }
  m.sequences[static_cast<size_t>(id)].live = true;
  return id;
}

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
  m.cut(s, s.n_committed);  // a reservation that was never committed is replaced
  if (n == 0) return std::span<const int32_t>();

  const bool partial = s.n_committed % kKvBlock != 0;
  const bool copy_last = partial && m.n_refs[static_cast<size_t>(s.blocks.back())] > 1;
  // 64 bits: n comes from a prompt's length.
  const int64_t n_needed = (static_cast<int64_t>(s.n_committed) + n + kKvBlock - 1) / kKvBlock -
                           static_cast<int64_t>(s.blocks.size()) + (copy_last ? 1 : 0);
  if (n_needed > static_cast<int64_t>(m.free_blocks.size())) return std::nullopt;

  int first_changed = s.n_committed;
  if (copy_last) {
    const int32_t own = m.take_block();
    m.copy_block(s.blocks.back(), own);
    m.drop_block(s.blocks.back());
    s.blocks.back() = own;
    first_changed = s.n_committed / kKvBlock * kKvBlock;
  }
  const int n_total = s.n_committed + n;
  while (static_cast<int>(s.blocks.size()) < n_blocks_for(n_total))
    s.blocks.push_back(m.take_block());
  m.fill_slots(s, first_changed, n_total);
  return std::span<const int32_t>(s.slots).subspan(static_cast<size_t>(s.n_committed));
}

void KvStore::commit(SeqId seq, int n, std::span<const int32_t>) {
  Impl::Sequence& s = impl_->at(seq);
  HOB_CHECK(n >= 0 && static_cast<size_t>(s.n_committed + n) <= s.slots.size());
  s.n_committed += n;
  impl_->cut(s, s.n_committed);
}

void KvStore::truncate(SeqId seq, int n) {
  Impl::Sequence& s = impl_->at(seq);
  HOB_CHECK(n >= 0 && n <= s.n_committed);
  s.n_committed = n;
  impl_->cut(s, n);
}

std::optional<SeqId> KvStore::share(SeqId seq, int n) {
  HOB_CHECK(n >= 0 && n <= impl_->at(seq).n_committed);
  const SeqId id = create();  // may move the sequences: look both up afterwards
  const Impl::Sequence& from = impl_->at(seq);
  Impl::Sequence& to = impl_->at(id);
  to.blocks.assign(from.blocks.begin(), from.blocks.begin() + n_blocks_for(n));
  to.slots.assign(from.slots.begin(), from.slots.begin() + n);
  to.n_committed = n;
  for (int32_t b : to.blocks) impl_->n_refs[static_cast<size_t>(b)]++;
  return id;
}

int KvStore::length(SeqId seq) const { return impl_->at(seq).n_committed; }

std::span<const int32_t> KvStore::slots(SeqId seq) const { return impl_->at(seq).slots; }

int KvStore::free_tokens() const { return static_cast<int>(impl_->free_blocks.size()) * kKvBlock; }

int KvStore::attach_prefix(SeqId seq, std::span<const int32_t>) {
  HOB_CHECK(length(seq) == 0);
  return 0;
}
int KvStore::cached_prefix(uint64_t, std::span<const int32_t>) const { return 0; }
void KvStore::forget(SeqId) {}
void KvStore::clear_prefix_cache() {}
void KvStore::release_before(SeqId, int) {}
int KvStore::first_position(SeqId) const { return 0; }

int KvStore::blocks_needed(SeqId seq, int n_more) const {
  const Impl::Sequence& s = impl_->at(seq);
  const bool copy =
      n_more > 0 && s.n_committed % kKvBlock != 0 &&
      impl_->n_refs[static_cast<size_t>(s.blocks[static_cast<size_t>(s.n_committed / kKvBlock)])] >
          1;
  return n_blocks_for(s.n_committed + n_more) - n_blocks_for(s.n_committed) + (copy ? 1 : 0);
}

int KvStore::n_blocks() const { return impl_->n_blocks; }
int KvStore::n_free_blocks() const { return static_cast<int>(impl_->free_blocks.size()); }
int KvStore::n_cached_blocks() const { return 0; }

const PrefixStats& KvStore::prefix_stats() const { return impl_->stats; }

KvLayer KvStore::layer(int i) const {
  const KvLayerGeometry& g = impl_->geometry.layers[static_cast<size_t>(i)];
  const Impl::LayerStorage& s = impl_->layers[static_cast<size_t>(i)];
  std::byte* base = impl_->storage.data();
  return {base + s.k_offset, base + s.v_offset, impl_->geometry.type, g.n_kv_heads, g.d_k, g.d_v};
}

KvType KvStore::type() const { return impl_->geometry.type; }

}  // namespace hob
