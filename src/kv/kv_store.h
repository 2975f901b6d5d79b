#pragma once
// KV cache memory and which sequence owns which slot (DESIGN decisions 9 and 12): paged blocks of
// kKvBlock tokens, ref-counted, with an automatic prefix cache.
//
// A sequence has a table of blocks; position p lives in slot table[p / kKvBlock] * kKvBlock +
// p % kKvBlock, so the decoder's position -> slot list is the block table spelled out. Waste is the
// unfilled rest of a sequence's last block.
//
// Prefix cache. Blocks that became full by commits with token ids stay findable by what they hold
// (scope, all tokens up to their end) until their memory is needed: blocks without such content are
// taken first, then cached ones, least recently used first, a sequence's tail before its head.
// Matches compare tokens, never hashes alone (prefix_index.h). In exact mode a hit does not change
// a bit of what follows.
//
// Copies are lazy: share() copies nothing; whoever first reserves behind the end of a partly filled
// block that others hold too gets a copy of it then. A partly filled block (after truncate) that
// only this sequence holds is rewritten in place and loses its hash then.
//
// Windows. One store serves layers that see the same positions. KvGeometry::window > 0: all of them
// see the last `window` positions only, blocks behind are given back with release_before(), and a
// prefix hit needs only the blocks that the next position sees. A model that mixes windowed and
// full layers has two groups: layers of equal bytes per block in two tables over one pool, i.e. a
// PrefixIndex node with a block per group, `blocks` and `slots` per group in a sequence, a slot
// list per group in StepRow, and attach_prefix taking the longest length at which every group has
// what it needs (full groups first, then the windowed ones within that). Until then such a model
// runs as one group with window 0: right, without the saving.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "backend/backend.h"
#include "kv/kv_geometry.h"

namespace hob {

// For tests; the defaults are right.
struct PrefixOptions {
  std::optional<uint64_t> seed;  // none = random, so that no client can craft collisions
  int hash_bits = 64;            // fewer = forced collisions
  int n_nodes = 0;               // remembered block contents; 0 = twice the number of blocks
};

struct PrefixStats {
  uint64_t n_query_tok = 0;  // prompt tokens that attach_prefix was asked for
  uint64_t n_hit_tok = 0;    // of these, taken from the cache
  uint64_t n_evicted = 0;    // cached blocks whose memory was needed
};

using SeqId = int32_t;

// Engine thread only.
class KvStore {
 public:
  // Capacity is rounded up to whole blocks.
  KvStore(KvGeometry geometry, int n_tokens, const PrefixOptions& prefix = {});
  ~KvStore();
  static uint64_t bytes(const KvGeometry& geometry, int n_tokens);

  // `scope`: only sequences of equal scope share cached blocks. A hash of everything besides the
  // tokens that the KV values depend on or that must keep clients apart: cache_salt, adapter,
  // precision mode and thresholds, KV type.
  SeqId create(uint64_t scope = 0);
  // Gives the blocks back, the tail first. What is cached stays findable.
  void free(SeqId seq);
  // Slots for the next n positions of `seq` (tentative until commit), or nullopt when the pool is
  // full; nothing has changed then. Replaces an earlier reservation: the slots that both have stay
  // the same and keep their content. The returned span and slots() stay valid until the next
  // reserve/truncate/free of this sequence.
  std::optional<std::span<const int32_t>> reserve(SeqId seq, int n);
  // The first n reserved positions become part of the sequence; the rest is freed. With the ids of
  // these n tokens, blocks that become full can be found by attach_prefix; without, neither they
  // nor any later block of the sequence (until it is truncated to where its tokens are known).
  void commit(SeqId seq, int n, std::span<const int32_t> tokens = {});
  // The same, but what is reserved behind stays reserved and keeps its content: a draft tree behind
  // the token that it grows from. A later reserve() may extend it; it counts from the new length.
  void commit_head(SeqId seq, int n, std::span<const int32_t> tokens = {});
  // Reserved position i takes over what reserved position keep[i] holds (counted from the first
  // reserved one; ascending), and the reservation ends behind them: the accepted path of a draft
  // tree and what is to survive of the rest, which a commit or commit_head then makes permanent.
  // Copies a token only where it moves.
  void compact(SeqId seq, std::span<const int32_t> keep);
  // Keeps the first n positions: n == 0 or n >= first_position(seq). What others see, also in the
  // prefix cache, does not change.
  void truncate(SeqId seq, int n);
  // New sequence of the same scope whose first n positions equal `seq`'s. Needs no block, so it
  // never fails today; callers handle none all the same.
  std::optional<SeqId> share(SeqId seq, int n);

  // On an empty sequence: takes the cached blocks that equal the start of `tokens`, never all of
  // it (one token must be computed for its logits). Returns the positions committed by that, a
  // multiple of kKvBlock. Needs no free block, but may take some out of n_free_blocks().
  int attach_prefix(SeqId seq, std::span<const int32_t> tokens);
  // What attach_prefix would return; counts nothing and holds nothing.
  int cached_prefix(uint64_t scope, std::span<const int32_t> tokens) const;
  // Nothing that has been computed so far is found any more, also not what running sequences hold
  // or will add to it: for values that turned out to be wrong.
  void clear_prefix_cache();

  // Gives back the blocks that lie wholly before `position`; their positions must not be read
  // again. Their entries in slots() become 0 (in range, meaningless).
  void release_before(SeqId seq, int position);
  // Positions before it have been released; a multiple of kKvBlock.
  int first_position(SeqId seq) const;

  int length(SeqId seq) const;                      // committed positions
  std::span<const int32_t> slots(SeqId seq) const;  // position -> slot, committed then reserved
  // Blocks that reserve(seq, n_more) would take besides those that the sequence has, a copy
  // included: it succeeds if and only if this is <= n_free_blocks().
  int blocks_needed(SeqId seq, int n_more) const;
  int n_blocks() const;
  int n_free_blocks() const;    // can be taken now, cached ones included
  int n_cached_blocks() const;  // can be found, free or held by a sequence
  int free_tokens() const;      // n_free_blocks() * kKvBlock
  const PrefixStats& prefix_stats() const;

  KvLayer layer(int i) const;
  KvType type() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob
