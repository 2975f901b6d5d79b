#include "kv/kv_reservation.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "kv/kv_geometry.h"

namespace hob {
namespace {

int order_of(int n_blocks) {
  return std::countr_zero(std::bit_ceil(static_cast<uint32_t>(n_blocks)));
}

}  // namespace

KvReservation::KvReservation(KvReserve mode, int n_blocks)
    : mode_(mode), n_blocks_(n_blocks), n_free_(n_blocks) {
  HOB_CHECK(n_blocks > 0);
  if (mode != KvReserve::kOracleBuddy) return;
  free_.resize(32);
  int first = 0;  // the pool as pieces of falling size: each is aligned to its own
  for (int order = 30; order >= 0; order--)
    if (n_blocks & (1 << order)) {
      free_of(order).push_back(first);
      first += 1 << order;
    }
}

int KvReservation::size(int n_tok, int n_max_tok) const {
  const int n = mode_ == KvReserve::kMax ? n_max_tok : std::min(n_tok, n_max_tok);
  const int n_blocks = std::max(1, (n + kKvBlock - 1) / kKvBlock);
  if (mode_ != KvReserve::kOracleBuddy) return std::min(n_blocks, n_blocks_);
  return std::min(1 << order_of(n_blocks),
                  static_cast<int>(std::bit_floor(static_cast<uint32_t>(n_blocks_))));
}

std::optional<KvReservation::Piece> KvReservation::take(int n_blocks) {
  HOB_CHECK(on() && n_blocks > 0);
  if (n_blocks > n_free_) return std::nullopt;
  std::optional<Piece> piece = mode_ == KvReserve::kOracleBuddy
                                   ? take_buddy(n_blocks)
                                   : Piece{.first = 0, .n_blocks = n_blocks};
  if (piece) n_free_ -= piece->n_blocks;
  return piece;
}

std::optional<KvReservation::Piece> KvReservation::take_buddy(int n_blocks) {
  const int wanted = order_of(n_blocks);
  int order = wanted;
  while (order < 31 && free_of(order).empty()) order++;
  if (order == 31) return std::nullopt;
  // The lowest address, so that high pieces stay whole.
  const auto lowest = std::min_element(free_of(order).begin(), free_of(order).end());
  const int first = *lowest;
  free_of(order).erase(lowest);
  while (order > wanted) {
    order--;
    free_of(order).push_back(first + (1 << order));
  }
  return Piece{.first = first, .n_blocks = 1 << wanted};
}

void KvReservation::give(Piece piece) {
  n_free_ += piece.n_blocks;
  HOB_CHECK(n_free_ <= n_blocks_);
  if (mode_ == KvReserve::kOracleBuddy) give_buddy(piece);
}

void KvReservation::give_buddy(Piece piece) {
  int order = order_of(piece.n_blocks);
  int first = piece.first;
  while (true) {
    const int buddy = first ^ (1 << order);
    std::vector<int>& same = free_of(order);
    const auto it = std::find(same.begin(), same.end(), buddy);
    if (it == same.end()) break;
    same.erase(it);
    first = std::min(first, buddy);
    order++;
  }
  free_of(order).push_back(first);
}

}  // namespace hob
