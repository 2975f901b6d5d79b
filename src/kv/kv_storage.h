#pragma once
// The bytes of all KV blocks: per layer, K of every block, then V of every block.
#include <vector>

#include "backend/backend.h"
#include "base/aligned_buffer.h"
#include "kv/kv_geometry.h"

namespace hob {

class KvStorage {
 public:
  KvStorage(KvGeometry geometry, int n_blocks);
  static uint64_t bytes(const KvGeometry& geometry, int n_blocks);

  const KvGeometry& geometry() const { return geometry_; }
  KvLayer layer(int i);
  void copy_block(int32_t from, int32_t to);
  void copy_slot(int32_t from, int32_t to);  // one token

 private:
  struct Layer {
    size_t k_offset = 0, v_offset = 0;
    size_t k_block_bytes = 0, v_block_bytes = 0;
  };
  KvGeometry geometry_;
  AlignedBuffer memory_;
  std::vector<Layer> layers_;
};

}  // namespace hob
