#pragma once
// Marks in KV memory: every number of a slot gets a value of its own that depends on a token's
// mark, so that a wrong slot, layer, head or copied block shows.
#include <cstring>
#include <numeric>
#include <vector>

#include "kv/kv_store.h"

namespace hob {

// Two layers of unequal width: an offset mistake between them shows up as a corrupted value.
inline KvGeometry test_geometry(KvType type = KvType::kF32, int window = 0) {
  return {{{2, 4, 6}, {1, 8, 2}}, type, window};
}

// fn(place, bytes): every f32 of the slot.
template <class Fn>
void for_each_number(const KvStore& kv, int slot, Fn&& fn) {
  uint32_t place = 0;
  for (int layer = 0; layer < 2; layer++) {
    const KvLayer l = kv.layer(layer);
    for (bool value : {false, true}) {
      const int d = value ? l.d_v : l.d_k;
      std::byte* base = value ? l.v : l.k;
      for (int head = 0; head < l.n_kv_heads; head++)
        for (int i = 0; i < d; i++) {
          const size_t number =
              (static_cast<size_t>(slot / kKvBlock * l.n_kv_heads + head) * kKvBlock +
               static_cast<size_t>(slot % kKvBlock)) *
                  static_cast<size_t>(d) +
              static_cast<size_t>(i);
          fn(place++, base + number * sizeof(float));
        }
    }
  }
}

inline uint32_t stamp(uint32_t mark, uint32_t place) { return mark * 2654435761u + place; }

inline void write_mark(const KvStore& kv, int slot, uint32_t mark) {
  for_each_number(kv, slot, [&](uint32_t place, std::byte* p) {
    const uint32_t value = stamp(mark, place);
    std::memcpy(p, &value, sizeof(value));
  });
}

inline bool mark_intact(const KvStore& kv, int slot, uint32_t mark) {
  bool intact = true;
  for_each_number(kv, slot, [&](uint32_t place, const std::byte* p) {
    uint32_t value;
    std::memcpy(&value, p, sizeof(value));
    intact = intact && value == stamp(mark, place);
  });
  return intact;
}

// n tokens from `first` on.
inline std::vector<int32_t> count_from(int first, int n) {
  std::vector<int32_t> t(static_cast<size_t>(n));
  std::iota(t.begin(), t.end(), first);
  return t;
}

// Computes `tokens` behind what the sequence has; the mark of a position is its token.
inline bool append(KvStore& kv, SeqId seq, std::span<const int32_t> tokens, bool known = true) {
  const auto slots = kv.reserve(seq, static_cast<int>(tokens.size()));
  if (!slots) return false;
  for (size_t i = 0; i < tokens.size(); i++)
    write_mark(kv, (*slots)[i], static_cast<uint32_t>(tokens[i]));
  kv.commit(seq, static_cast<int>(tokens.size()), known ? tokens : std::span<const int32_t>());
  return true;
}

// A new sequence with this prompt, from the cache as far as possible.
inline SeqId run_prompt(KvStore& kv, std::span<const int32_t> tokens, uint64_t scope = 0) {
  const SeqId seq = kv.create(scope);
  const int n = kv.attach_prefix(seq, tokens);
  append(kv, seq, tokens.subspan(static_cast<size_t>(n)));
  return seq;
}

inline bool holds(const KvStore& kv, SeqId seq, std::span<const int32_t> tokens) {
  if (kv.length(seq) != static_cast<int>(tokens.size())) return false;
  for (size_t p = static_cast<size_t>(kv.first_position(seq)); p < tokens.size(); p++)
    if (!mark_intact(kv, kv.slots(seq)[p], static_cast<uint32_t>(tokens[p]))) return false;
  return true;
}

}  // namespace hob
