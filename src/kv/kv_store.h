#pragma once
// KV cache memory and which sequence owns which slot. DESIGN decision 12: reserve -> slots | none,
// commit, truncate, share. This first version gives slots from one pool in blocks of kKvBlock
// tokens per sequence; a paged block pool with prefix sharing replaces the inside without touching
// the decoder.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/aligned_buffer.h"

namespace hob {

struct KvLayerGeometry {
  int n_kv_heads = 0, d_k = 0, d_v = 0;
};

struct KvGeometry {
  std::vector<KvLayerGeometry> layers;
  KvType type = KvType::kF16;
  uint64_t bytes_per_token() const;
};

using SeqId = int32_t;

// Engine thread only.
class KvStore {
 public:
  KvStore(KvGeometry geometry, int n_tokens);  // capacity, rounded up to whole blocks
  static uint64_t bytes(const KvGeometry& geometry, int n_tokens);

  SeqId create();
  void free(SeqId seq);
  // Slots for the next n positions of `seq` (tentative until commit), or nullopt when the pool is
  // full. The returned span and slots() stay valid until the next reserve/truncate/free of this
  // sequence.
  std::optional<std::span<const int32_t>> reserve(SeqId seq, int n);
  void commit(
      SeqId seq,
      int n);  // the first n reserved positions become part of the sequence; the rest is freed
  void truncate(SeqId seq, int n);  // keep the first n positions
  // New sequence whose first n positions equal `seq`'s (copies whole blocks lazily or eagerly;
  // contents identical).
  std::optional<SeqId> share(SeqId seq, int n);
  int length(SeqId seq) const;                      // committed positions
  std::span<const int32_t> slots(SeqId seq) const;  // position -> slot, committed then reserved
  int free_tokens() const;
  KvLayer layer(int i) const;
  KvType type() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace hob
