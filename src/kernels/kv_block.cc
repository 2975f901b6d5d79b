#include "kernels/kv_block.h"

#include "base/error.h"

namespace hob {

size_t kv_block_bytes(KvType type, int d) {
  const size_t n = static_cast<size_t>(d) * kKvBlock;
  switch (type) {
    case KvType::kF16:
      return n * 2;
    case KvType::kF32:
      return n * 4;
    case KvType::kQ8:
      HOB_CHECK(d % kKvScaleWidth == 0);
      return n + n / kKvScaleWidth * 2;
  }
  HOB_CHECK(!"not a KV type");
  return 0;
}

const char* kv_type_name(KvType type) {
  return type == KvType::kF16 ? "f16" : type == KvType::kF32 ? "f32" : "q8";
}

}  // namespace hob
