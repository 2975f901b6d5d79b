// A row may have more query heads per KV head than one kernel call takes.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "backend/backend.h"

namespace hob {
namespace {

TEST(CpuAttention, AnyNumberOfHeadsPerKvHead) {
  constexpr int kHeads = 130, kWidth = 32, kTokens = 40, kRows = 3, kPart = 10;
  std::mt19937 rng(3);
  std::normal_distribution<float> normal;
  const auto random = [&](size_t n) {
    std::vector<float> x(n);
    for (float& v : x) v = normal(rng);
    return x;
  };
  const auto backend = make_cpu_backend({.n_threads = 2, .force_isa = {}});
  std::vector<std::byte> k_store(3 * kv_block_bytes(KvType::kF16, kWidth)), v_store = k_store;
  const KvLayer layer{k_store.data(), v_store.data(), KvType::kF16, 1, kWidth, kWidth};
  std::vector<int32_t> slots(kTokens);
  for (int i = 0; i < kTokens; i++) slots[static_cast<size_t>(i)] = i;
  auto k = random(kTokens * kWidth), v = random(kTokens * kWidth);
  backend->kv_write(layer, slots, {k.data(), kTokens, kWidth, kWidth},
                    {v.data(), kTokens, kWidth, kWidth});

  auto q = random(static_cast<size_t>(kRows * kHeads * kWidth));
  std::vector<float> whole(q.size()), parts(q.size());
  std::vector<AttnRow> rows;
  for (int r = 0; r < kRows; r++) rows.push_back({slots.data(), 0, kTokens - kRows + r + 1});
  constexpr int kStride = kHeads * kWidth;
  backend->attention(layer, {q.data(), kRows, kStride, kStride}, {.n_heads = kHeads, .scale = 0.2f},
                     rows, {whole.data(), kRows, kStride, kStride});
  for (int h = 0; h < kHeads; h += kPart)
    backend->attention(layer, {q.data() + h * kWidth, kRows, kPart * kWidth, kStride},
                       {.n_heads = kPart, .scale = 0.2f}, rows,
                       {parts.data() + h * kWidth, kRows, kPart * kWidth, kStride});
  EXPECT_EQ(std::memcmp(whole.data(), parts.data(), whole.size() * sizeof(float)), 0);
}

// One row with one KV head is shared out among the threads.
TEST(CpuAttention, ThreadsShareTheHeadsOfOneRow) {
  constexpr int kHeads = 7, kKey = 96, kLatent = 64, kTokens = 200;
  std::mt19937 rng(4);
  std::normal_distribution<float> normal;
  std::vector<float> k(kTokens * kKey), q(kHeads * kKey), first;
  for (float& x : k) x = normal(rng);
  for (float& x : q) x = normal(rng);
  std::vector<int32_t> slots(kTokens);
  for (int i = 0; i < kTokens; i++) slots[static_cast<size_t>(i)] = i;
  std::vector<std::byte> store(13 * kv_block_bytes(KvType::kF16, kKey));
  const KvLayer layer{store.data(), nullptr, KvType::kF16, 1, kKey, 0};
  for (int n_threads : {1, 2, 3, 16}) {
    const auto backend = make_cpu_backend({.n_threads = n_threads, .force_isa = {}});
    backend->kv_write(layer, slots, {k.data(), kTokens, kKey, kKey}, {nullptr, kTokens, 0, 0});
    std::vector<float> out(kHeads * kLatent);
    const AttnRow row{slots.data(), 0, kTokens};
    backend->attention(layer, {q.data(), 1, kHeads * kKey, kHeads * kKey},
                       {.n_heads = kHeads, .scale = 0.2f, .d_latent_v = kLatent}, {&row, 1},
                       {out.data(), 1, kHeads * kLatent, kHeads * kLatent});
    if (first.empty()) first = out;
    EXPECT_EQ(std::memcmp(first.data(), out.data(), out.size() * sizeof(float)), 0) << n_threads;
  }
}

}  // namespace
}  // namespace hob
