#include "kv/kv_storage.h"

#include <cstring>

namespace hob {
namespace {

// Bytes of one block of K (d = d_k) or V (d = d_v) of one layer.
size_t block_bytes(const KvLayerGeometry& layer, int d, KvType type) {
  return static_cast<size_t>(layer.n_kv_heads) * kv_block_bytes(type, d);
}

// `n` runs of `bytes`, `stride` apart.
void copy_runs(const std::byte* from, std::byte* to, int n, size_t stride, size_t bytes) {
  for (int i = 0; i < n; i++)
    std::memcpy(to + static_cast<size_t>(i) * stride, from + static_cast<size_t>(i) * stride,
                bytes);
}

// One token of a head's block: d numbers that lie `stride` bytes apart, or for V (stride of one
// number) in one run; q8: and its scales.
void copy_token(const std::byte* from, size_t from_token, std::byte* to, size_t to_token, int d,
                bool is_k, KvType type) {
  const size_t number = type == KvType::kF32 ? 4 : type == KvType::kF16 ? 2 : 1;
  const size_t step = is_k ? number : number * static_cast<size_t>(d);
  const size_t run = is_k ? number : number * static_cast<size_t>(d);
  copy_runs(from + from_token * step, to + to_token * step, is_k ? d : 1, number * kKvBlock, run);
  if (type != KvType::kQ8) return;
  const size_t scales = static_cast<size_t>(d) * kKvBlock;
  copy_runs(from + scales + 2 * from_token, to + scales + 2 * to_token, d / kKvScaleWidth,
            2 * kKvBlock, 2);
}

// K and V of a layer start on cache lines of their own.
size_t align64(size_t n) { return (n + 63) / 64 * 64; }

}  // namespace

uint64_t KvGeometry::bytes_per_token() const {
  uint64_t n = 0;
  for (const KvLayerGeometry& l : layers)
    n += block_bytes(l, l.d_k, type) + block_bytes(l, l.d_v, type);
  return n / kKvBlock;
}

// Huge pages: the plan counts every byte of it.
KvStorage::KvStorage(KvGeometry geometry, int n_blocks)
    : geometry_(std::move(geometry)), memory_(bytes(geometry_, n_blocks), /*huge_pages=*/true) {
  size_t offset = 0;
  const auto place = [&](size_t bytes_of_block) {
    const size_t at = offset;
    offset += align64(bytes_of_block * static_cast<size_t>(n_blocks));
    return at;
  };
  for (const KvLayerGeometry& l : geometry_.layers) {
    Layer s;
    s.k_block_bytes = block_bytes(l, l.d_k, geometry_.type);
    s.v_block_bytes = block_bytes(l, l.d_v, geometry_.type);
    s.k_offset = place(s.k_block_bytes);
    s.v_offset = place(s.v_block_bytes);
    layers_.push_back(s);
  }
}

uint64_t KvStorage::bytes(const KvGeometry& geometry, int n_blocks) {
  const auto n = static_cast<size_t>(n_blocks);
  uint64_t sum = 0;
  for (const KvLayerGeometry& l : geometry.layers)
    sum += align64(block_bytes(l, l.d_k, geometry.type) * n) +
           align64(block_bytes(l, l.d_v, geometry.type) * n);
  return sum;
}

KvLayer KvStorage::layer(int i) {
  const KvLayerGeometry& g = geometry_.layers[static_cast<size_t>(i)];
  const Layer& l = layers_[static_cast<size_t>(i)];
  std::byte* base = memory_.data();
  return {base + l.k_offset, base + l.v_offset, geometry_.type, g.n_kv_heads, g.d_k, g.d_v};
}

void KvStorage::copy_block(int32_t from, int32_t to) {
  const auto copy = [&](size_t offset, size_t bytes_of_block) {
    std::byte* p = memory_.data() + offset;
    std::memcpy(p + static_cast<size_t>(to) * bytes_of_block,
                p + static_cast<size_t>(from) * bytes_of_block, bytes_of_block);
  };
  for (const Layer& l : layers_) {
    copy(l.k_offset, l.k_block_bytes);
    copy(l.v_offset, l.v_block_bytes);
  }
}

void KvStorage::copy_slot(int32_t from, int32_t to) {
  const auto place = [](int32_t slot, int head, int n_heads, size_t head_bytes) {
    return (static_cast<size_t>(slot / kKvBlock) * static_cast<size_t>(n_heads) +
            static_cast<size_t>(head)) *
           head_bytes;
  };
  for (size_t i = 0; i < layers_.size(); i++) {
    const KvLayer l = layer(static_cast<int>(i));
    for (const bool is_k : {true, false}) {
      std::byte* base = is_k ? l.k : l.v;
      const int d = is_k ? l.d_k : l.d_v;
      const size_t head_bytes = kv_block_bytes(l.type, d);
      for (int h = 0; h < l.n_kv_heads; h++)
        copy_token(base + place(from, h, l.n_kv_heads, head_bytes),
                   static_cast<size_t>(from % kKvBlock),
                   base + place(to, h, l.n_kv_heads, head_bytes),
                   static_cast<size_t>(to % kKvBlock), d, is_k, l.type);
    }
  }
}

}  // namespace hob
