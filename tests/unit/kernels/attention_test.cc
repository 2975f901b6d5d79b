// Attention and the KV blocks it reads, in every ISA of this machine: the same bits in all of them,
// whatever other queries share a call and wherever the tokens lie, and close to double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "tensor/half.h"
#include "unit/kernels/tables_util.h"

namespace hob {
namespace {

std::vector<float> random_floats(size_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng);
  return x;
}

enum class Order { kGrown, kBlocksShuffled, kAllShuffled };

struct Case {
  int d_k, d_v, first, n_visible;
  Order order;
  int window = 0;       // each query sees so many positions up to its end
  bool sinks = false;   // every other query has one
  bool latent = false;  // V is the start of K
};

// The K and V of one head among two, written token by token.
class Store {
 public:
  Store(const KernelTable& kernels, KvType type, const Case& c, const std::vector<float>& k,
        const std::vector<float>& v)
      : type_(type), case_(c) {
    const int n_blocks = (c.n_visible + kKvBlock - 1) / kKvBlock + 1;
    slots_.resize(static_cast<size_t>(n_blocks * kKvBlock));
    std::vector<int> blocks(static_cast<size_t>(n_blocks));
    for (int b = 0; b < n_blocks; b++) blocks[static_cast<size_t>(b)] = b;
    std::mt19937 rng(11);
    if (c.order == Order::kBlocksShuffled) std::shuffle(blocks.begin(), blocks.end(), rng);
    for (size_t i = 0; i < slots_.size(); i++)
      slots_[i] = blocks[i / kKvBlock] * kKvBlock + static_cast<int>(i % kKvBlock);
    if (c.order == Order::kAllShuffled) std::shuffle(slots_.begin(), slots_.end(), rng);
    k_.assign(static_cast<size_t>(2 * n_blocks) * kv_block_bytes(type, c.d_k), std::byte{0x7e});
    v_.assign(static_cast<size_t>(2 * n_blocks) * kv_block_bytes(type, c.d_v), std::byte{0x7e});
    for (int p = 0; p < c.n_visible; p++) {
      const int slot = slots_[static_cast<size_t>(p)];
      const auto write = kernels.kv_write[static_cast<size_t>(type)];
      write(k.data() + p * c.d_k, c.d_k, slot % kKvBlock, true, block(k_, slot, c.d_k));
      write(v.data() + p * c.d_v, c.d_v, slot % kKvBlock, false, block(v_, slot, c.d_v));
    }
  }

  AttnKernelArgs args(const std::vector<AttnQuery>& queries) {
    AttnKernelArgs a;
    a.queries = queries.data();
    a.n_queries = static_cast<int>(queries.size());
    a.k = block(k_, 0, case_.d_k);
    a.v = block(v_, 0, case_.d_v);
    a.k_stride = 2 * kv_block_bytes(type_, case_.d_k);
    a.v_stride = 2 * kv_block_bytes(type_, case_.d_v);
    a.slots = slots_.data();
    a.d_k = case_.d_k;
    a.d_v = case_.d_v;
    a.v_in_k = case_.latent;
    if (case_.latent) a.v = nullptr;
    a.scale = 0.2f;
    return a;
  }

  // What the store holds, read back by the layout that kv_block.h describes.
  std::vector<float> stored_k() { return stored(k_, case_.d_k, true); }
  std::vector<float> stored_v() {
    if (!case_.latent) return stored(v_, case_.d_v, false);
    const std::vector<float> k = stored_k();
    std::vector<float> v;
    for (int p = 0; p < case_.n_visible; p++)
      v.insert(v.end(), k.begin() + p * case_.d_k, k.begin() + p * case_.d_k + case_.d_v);
    return v;
  }
  const std::vector<std::byte>& k_bytes() const { return k_; }
  const std::vector<std::byte>& v_bytes() const { return v_; }

 private:
  std::byte* block(std::vector<std::byte>& bytes, int slot, int d) {  // of head 1
    return bytes.data() + static_cast<size_t>(slot / kKvBlock * 2 + 1) * kv_block_bytes(type_, d);
  }
  std::vector<float> stored(std::vector<std::byte>& bytes, int d, bool is_k) {
    std::vector<float> x;
    for (int p = 0; p < case_.n_visible; p++)
      for (int c = 0; c < d; c++) {
        const int slot = slots_[static_cast<size_t>(p)], token = slot % kKvBlock;
        const std::byte* b = block(bytes, slot, d);
        const int at = is_k ? c * kKvBlock + token : token * d + c;
        uint16_t half;
        if (type_ == KvType::kF32) {
          x.push_back(reinterpret_cast<const float*>(b)[at]);
        } else if (type_ == KvType::kF16) {
          std::memcpy(&half, b + 2 * at, 2);
          x.push_back(f16_to_f32(half));
        } else {
          std::memcpy(&half, b + d * kKvBlock + 2 * (c / 32 * kKvBlock + token), 2);
          x.push_back(static_cast<float>(static_cast<int8_t>(b[at])) * f16_to_f32(half));
        }
      }
    return x;
  }

  KvType type_;
  Case case_;
  std::vector<int32_t> slots_;
  std::vector<std::byte> k_, v_;
};

// 13 queries whose ends lie in the last tile, before it, and at `first` + 1.
struct Queries {
  Queries(const Case& c, const std::vector<float>& q) : out(13 * static_cast<size_t>(c.d_v)) {
    for (int i = 0; i < 13; i++) {
      const int n = std::max(c.first + 1, c.n_visible - (i < 9 ? (8 - i) / 2 : 11 * (12 - i)));
      list.push_back({.q = q.data() + i * c.d_k,
                      .out = out.data() + i * c.d_v,
                      .n_visible = n,
                      .first = c.window > 0 ? std::max(c.first, n - c.window) : c.first,
                      .sink = c.sinks && i % 2 == 0 ? q[static_cast<size_t>(i)] : -INFINITY});
    }
  }
  std::vector<float> out;
  std::vector<AttnQuery> list;
};

void expect_near_double(const Case& c, const AttnQuery& query, const std::vector<float>& k,
                        const std::vector<float>& v) {
  std::vector<double> p;
  double total = std::exp(static_cast<double>(query.sink));
  for (int j = query.first; j < query.n_visible; j++) {
    double s = 0;
    for (int i = 0; i < c.d_k; i++)
      s += static_cast<double>(query.q[i]) *
           static_cast<double>(k[static_cast<size_t>(j * c.d_k + i)]);
    p.push_back(std::exp(s * 0.2));
    total += p.back();
  }
  for (int i = 0; i < c.d_v; i++) {
    double o = 0;
    for (int j = query.first; j < query.n_visible; j++)
      o += p[static_cast<size_t>(j - query.first)] / total *
           static_cast<double>(v[static_cast<size_t>(j * c.d_v + i)]);
    ASSERT_NEAR(query.out[i], o, 2e-5);
  }
}

class Attention : public testing::TestWithParam<Case> {};

TEST_P(Attention, NearDoubleAndTheSameBitsEverywhere) {
  const Case c = GetParam();
  const auto q = random_floats(13 * static_cast<size_t>(c.d_k), 1);
  const auto k = random_floats(static_cast<size_t>(c.n_visible * c.d_k), 2);
  const auto v = random_floats(static_cast<size_t>(c.n_visible * c.d_v), 3);
  for (KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8}) {
    if (type == KvType::kQ8 && (c.d_k % 32 != 0 || c.d_v % 32 != 0)) continue;
    SCOPED_TRACE(kv_type_name(type));
    std::vector<float> first;
    for (const KernelTable* kernels : tables()) {
      SCOPED_TRACE(kernels->isa);
      Store store(*kernels, type, c, k, v);
      const auto run = kernels->attention[static_cast<size_t>(type)];
      Queries together(c, q);
      run(store.args(together.list));
      for (const AttnQuery& query : together.list)
        expect_near_double(c, query, store.stored_k(), store.stored_v());
      if (first.empty()) first = together.out;
      ASSERT_EQ(std::memcmp(first.data(), together.out.data(), first.size() * 4), 0);
      Queries alone(c, q);
      for (const AttnQuery& query : alone.list) run(store.args({query}));
      ASSERT_EQ(std::memcmp(first.data(), alone.out.data(), first.size() * 4), 0);
    }
  }
}

// f16 and q8 are ways to store numbers: with what they hold, f32 gives the same bits.
TEST_P(Attention, StoredTypesGiveTheBitsOfTheirNumbersInF32) {
  const Case c = GetParam();
  const auto q = random_floats(13 * static_cast<size_t>(c.d_k), 1);
  const auto k = random_floats(static_cast<size_t>(c.n_visible * c.d_k), 2);
  const auto v = random_floats(static_cast<size_t>(c.n_visible * c.d_v), 3);
  for (KvType type : {KvType::kF16, KvType::kQ8}) {
    if (type == KvType::kQ8 && (c.d_k % 32 != 0 || c.d_v % 32 != 0)) continue;
    for (const KernelTable* kernels : tables()) {
      Store packed(*kernels, type, c, k, v);
      Store wide(*kernels, KvType::kF32, c, packed.stored_k(), packed.stored_v());
      Queries a(c, q), b(c, q);
      kernels->attention[static_cast<size_t>(type)](packed.args(a.list));
      kernels->attention[static_cast<size_t>(KvType::kF32)](wide.args(b.list));
      ASSERT_EQ(std::memcmp(a.out.data(), b.out.data(), a.out.size() * 4), 0)
          << kernels->isa << " " << kv_type_name(type);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kernels, Attention,
    testing::Values(
        Case{16, 16, 0, 1, Order::kGrown}, Case{64, 64, 0, 63, Order::kGrown},
        Case{64, 32, 0, 64, Order::kBlocksShuffled}, Case{128, 128, 0, 65, Order::kGrown},
        Case{24, 40, 0, 200, Order::kBlocksShuffled}, Case{16, 16, 70, 131, Order::kAllShuffled},
        Case{96, 160, 5, 140, Order::kAllShuffled}, Case{128, 128, 64, 300, Order::kBlocksShuffled},
        Case{64, 64, 100, 260, Order::kGrown}, Case{64, 64, 0, 200, Order::kGrown, 20},
        Case{64, 64, 0, 300, Order::kBlocksShuffled, 128, true},
        Case{32, 32, 3, 90, Order::kAllShuffled, 1, true},
        Case{576, 512, 0, 150, Order::kGrown, 0, false, true},
        Case{96, 64, 0, 140, Order::kAllShuffled, 0, true, true},
        Case{48, 44, 5, 170, Order::kBlocksShuffled, 0, false, true},
        Case{96, 96, 0, 200, Order::kGrown, 30, false, true}));

// A latent's rows come out of whole blocks or, where a sequence's tokens lie anywhere, one by one.
TEST(LatentAttention, TheSameBitsWhereverTheTokensLie) {
  for (KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8})
    for (const KernelTable* kernels : tables()) {
      std::vector<float> first;
      for (Order order : {Order::kAllShuffled, Order::kBlocksShuffled, Order::kGrown}) {
        const Case c{
            .d_k = 96, .d_v = 64, .first = 3, .n_visible = 170, .order = order, .latent = true};
        const auto k = random_floats(static_cast<size_t>(c.n_visible * c.d_k), 2);
        const auto q = random_floats(13 * static_cast<size_t>(c.d_k), 1);
        Store store(*kernels, type, c, k, k);
        Queries queries(c, q);
        kernels->attention[static_cast<size_t>(type)](store.args(queries.list));
        if (first.empty()) first = queries.out;
        ASSERT_EQ(std::memcmp(first.data(), queries.out.data(), first.size() * 4), 0)
            << kernels->isa << " " << kv_type_name(type);
      }
    }
}

// Keys that score far above or below the sink: it takes nothing, or all but nothing.
TEST(AttentionSink, TakesItsShare) {
  const Case c{16, 16, 0, 20, Order::kGrown};
  const auto k = random_floats(20 * 16, 2), v = random_floats(20 * 16, 3);
  const auto q = random_floats(16, 1);
  for (const KernelTable* kernels : tables()) {
    Store store(*kernels, KvType::kF32, c, k, v);
    std::vector<float> plain(16), low(16), high(16);
    kernels->attention[1](store.args({{q.data(), plain.data(), 20}}));
    kernels->attention[1](store.args({{q.data(), low.data(), 20, 0, -200.f}}));
    kernels->attention[1](store.args({{q.data(), high.data(), 20, 0, 200.f}}));
    EXPECT_EQ(low, plain) << kernels->isa;
    for (const float x : high) EXPECT_EQ(x, 0.f) << kernels->isa;
  }
}

TEST(KvBlocks, EveryIsaWritesTheSameBytes) {
  const Case c{64, 96, 0, 40, Order::kBlocksShuffled};
  std::vector<float> k = random_floats(40 * 64, 2), v = random_floats(40 * 96, 3);
  // Zero blocks, f16 ties and overflow, a scale below f16's range and one that rounds down.
  std::fill(k.begin(), k.begin() + 64, 0.f);
  for (size_t i = 64; i < 96; i++) k[i] = 1e-9f * static_cast<float>(i);
  k[128] = 1e9f, k[200] = 65520.f, k[201] = -65519.f, k[300] = 2.9e-8f, k[333] = 127.06f;
  for (KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8}) {
    const Store first(*tables().front(), type, c, k, v);
    for (const KernelTable* kernels : tables()) {
      const Store store(*kernels, type, c, k, v);
      EXPECT_EQ(store.k_bytes(), first.k_bytes()) << kernels->isa << " " << kv_type_name(type);
      EXPECT_EQ(store.v_bytes(), first.v_bytes()) << kernels->isa << " " << kv_type_name(type);
    }
  }
}

TEST(KvBlocks, F16RoundsToNearestEven) {
  const Case c{32, 32, 0, 16, Order::kGrown};
  auto k = random_floats(16 * 32, 4);
  const std::vector<float> edges = {65504.f, 65519.f, 65520.f, 1e9f, -1e9f, 6e-8f,
                                    2.9e-8f, 3.1e-8f, 6.1e-5f, 0.f,  -0.f,  1.0009766f};
  std::copy(edges.begin(), edges.end(), k.begin());
  for (const KernelTable* kernels : tables()) {
    const std::vector<float> stored = Store(*kernels, KvType::kF16, c, k, k).stored_k();
    for (size_t i = 0; i < k.size(); i++)
      ASSERT_EQ(stored[i], f16_to_f32(f32_to_f16(k[i]))) << kernels->isa << " " << k[i];
  }
}

TEST(KvBlocks, Q8IsWithinHalfAStep) {
  const Case c{64, 64, 0, 50, Order::kGrown};
  const auto k = random_floats(50 * 64, 5);
  for (const KernelTable* kernels : tables()) {
    const std::vector<float> stored = Store(*kernels, KvType::kQ8, c, k, k).stored_v();
    for (size_t b = 0; b < k.size(); b += 32) {
      float largest = 0;
      for (size_t i = b; i < b + 32; i++) largest = std::max(largest, std::fabs(k[i]));
      // Half a step, and the f16 rounding of the scale (2^-11) at the far end.
      for (size_t i = b; i < b + 32; i++)
        ASSERT_NEAR(stored[i], k[i], largest / 127 * (0.5f + 127.f / 2048)) << kernels->isa;
    }
  }
}

}  // namespace
}  // namespace hob
