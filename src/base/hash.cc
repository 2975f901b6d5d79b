#include "base/hash.h"

// The whole library is in its header then: nothing to link, nothing that another object file
// compiled with other flags could replace (docs/adr/0002 is why that matters to us).
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hob {

struct Hash64::State {
  XXH3_state_t xxh;
};

uint64_t hash64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t hash64(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

Hash64::Hash64() : state_(std::make_unique<State>()) { XXH3_64bits_reset(&state_->xxh); }
Hash64::~Hash64() = default;

void Hash64::add(std::span<const std::byte> bytes) {
  if (!bytes.empty()) XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
}

uint64_t Hash64::value() const { return XXH3_64bits_digest(&state_->xxh); }

}  // namespace hob
