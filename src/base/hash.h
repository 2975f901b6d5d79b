#pragma once
// XXH3, 64 bits: checksums of files and keys of caches. Fast (memory speed) and well mixed, not
// cryptographic: it finds accidents, not forgers.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace hob {

uint64_t hash64(std::span<const std::byte> bytes);
// Whoever does not know the seed cannot choose bytes that collide on purpose (as far as XXH3 goes).
uint64_t hash64(std::span<const std::byte> bytes, uint64_t seed);

// The same hash of bytes that come in pieces.
class Hash64 {
 public:
  Hash64();
  ~Hash64();
  Hash64(const Hash64&) = delete;
  Hash64& operator=(const Hash64&) = delete;
  void add(std::span<const std::byte> bytes);
  uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hob
