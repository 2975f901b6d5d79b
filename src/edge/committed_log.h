#pragma once
// The ids that both sides have agreed upon, prompt first, and their running hash (edgespec.proto).
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace hob::edge {

// What hot messages carry of a hash.
inline uint32_t low_bits(uint64_t hash) { return static_cast<uint32_t>(hash); }

class CommittedLog {
 public:
  CommittedLog() = default;
  explicit CommittedLog(std::vector<int32_t> ids) : ids_(std::move(ids)) { hash_ = hash_of(ids_); }

  void append(int32_t id) {
    ids_.push_back(id);
    hash_ = with(hash_, id);
  }
  int size() const { return static_cast<int>(ids_.size()); }
  std::span<const int32_t> ids() const { return ids_; }
  std::span<const int32_t> from(int n) const { return ids().subspan(static_cast<size_t>(n)); }
  uint64_t hash() const { return hash_; }
  // Of these ids and more behind them.
  uint64_t hash_with(std::span<const int32_t> more) const {
    uint64_t hash = hash_;
    for (const int32_t id : more) hash = with(hash, id);
    return hash;
  }
  // Of the first n ids; n <= size().
  uint64_t hash_at(int n) const {
    return n == size() ? hash_ : hash_of(ids().first(static_cast<size_t>(n)));
  }

 private:
  static constexpr uint64_t kBasis = 14695981039346656037u, kPrime = 1099511628211u;  // FNV-1a

  static uint64_t with(uint64_t hash, int32_t id) {
    const auto value = static_cast<uint32_t>(id);
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ (value >> shift & 0xFF)) * kPrime;
    return hash;
  }
  static uint64_t hash_of(std::span<const int32_t> ids) {
    uint64_t hash = kBasis;
    for (const int32_t id : ids) hash = with(hash, id);
    return hash;
  }

  std::vector<int32_t> ids_;
  uint64_t hash_ = kBasis;
};

}  // namespace hob::edge
