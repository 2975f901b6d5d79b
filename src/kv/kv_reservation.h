#pragma once
// For comparison only: what systems without paging do with KV memory. They give a request one
// contiguous piece for its whole length when it starts. Here the pieces are only counted, the
// values still live in paged blocks: the difference that a measurement shows is that of the
// admission, with the same kernels on both sides. Ref: [vLLM] §6.1 (Orca Max, Orca Oracle with a
// buddy allocator).
#include <cstdint>
#include <optional>
#include <vector>

namespace hob {

enum class KvReserve : uint8_t {
  kNone,         // paged: blocks as the request grows
  kMax,          // the longest that a request may become
  kOracle,       // its true length, known in advance; pieces without any fragmentation
  kOracleBuddy,  // the same from a buddy allocator: powers of two
};

// Engine thread only.
class KvReservation {
 public:
  KvReservation() = default;  // kNone
  KvReservation(KvReserve mode, int n_blocks);

  bool on() const { return mode_ != KvReserve::kNone; }
  // Blocks that a sequence takes of `n_tok` tokens at its end and at most `n_max_tok`. Never more
  // than the largest piece there is, so that whatever paging could run starts some day.
  int size(int n_tok, int n_max_tok) const;
  int n_free_blocks() const { return n_free_; }

  struct Piece {
    int first = 0, n_blocks = 0;
  };
  // `n_blocks`: as size() said. nullopt: no room, or none in one piece.
  std::optional<Piece> take(int n_blocks);
  void give(Piece piece);

 private:
  std::optional<Piece> take_buddy(int n_blocks);
  void give_buddy(Piece piece);
  std::vector<int>& free_of(int order) { return free_[static_cast<size_t>(order)]; }

  KvReserve mode_ = KvReserve::kNone;
  int n_blocks_ = 0, n_free_ = 0;
  std::vector<std::vector<int>> free_;  // buddy: [order] first blocks of free pieces of 2^order
};

}  // namespace hob
