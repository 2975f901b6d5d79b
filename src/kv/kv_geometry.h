#pragma once
// Shapes of a model's KV cache.
#include <cstdint>
#include <vector>

#include "backend/backend.h"

namespace hob {

struct KvLayerGeometry {
  int n_kv_heads = 0, d_k = 0, d_v = 0;
};

struct KvGeometry {
  std::vector<KvLayerGeometry> layers;
  KvType type = KvType::kF16;
  int window = 0;  // > 0: position p sees (p - window, p] in every layer
  uint64_t bytes_per_token() const;
};

inline int n_kv_blocks(int64_t n_tokens) {
  return static_cast<int>((n_tokens + kKvBlock - 1) / kKvBlock);
}

}  // namespace hob
