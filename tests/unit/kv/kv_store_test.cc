#include "kv/kv_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>

namespace hob {
namespace {

// Two layers of unequal width: an offset mistake between them shows up as a corrupted value.
KvGeometry geometry(KvType type = KvType::kF32) { return {{{2, 4, 6}, {1, 8, 2}}, type}; }

float* element(const KvLayer& l, bool value, int slot, int head) {
  const int d = value ? l.d_v : l.d_k;
  std::byte* base = value ? l.v : l.k;
  const int64_t i = (static_cast<int64_t>(slot / kKvBlock) * l.n_kv_heads + head) * kKvBlock * d +
                    static_cast<int64_t>(slot % kKvBlock) * d;
  return reinterpret_cast<float*>(base) + i;
}

// Every element of a token's K and V gets a value that depends on the token and the place.
float stamp(float token, int layer, bool value, int head, int i) {
  return token * 1000 + static_cast<float>(layer * 400 + (value ? 200 : 0) + head * 50 + i);
}

void write_token(const KvStore& kv, int slot, float token) {
  for (int layer = 0; layer < 2; layer++) {
    const KvLayer l = kv.layer(layer);
    for (int head = 0; head < l.n_kv_heads; head++)
      for (bool value : {false, true})
        for (int i = 0; i < (value ? l.d_v : l.d_k); i++)
          element(l, value, slot, head)[i] = stamp(token, layer, value, head, i);
  }
}

bool token_intact(const KvStore& kv, int slot, float token) {
  for (int layer = 0; layer < 2; layer++) {
    const KvLayer l = kv.layer(layer);
    for (int head = 0; head < l.n_kv_heads; head++)
      for (bool value : {false, true})
        for (int i = 0; i < (value ? l.d_v : l.d_k); i++)
          if (element(l, value, slot, head)[i] != stamp(token, layer, value, head, i)) return false;
  }
  return true;
}

TEST(KvStore, CapacityIsRoundedUpToBlocks) {
  KvStore kv(geometry(), 17);
  EXPECT_EQ(kv.free_tokens(), 32);
  EXPECT_EQ(KvStore::bytes(geometry(), 17), KvStore::bytes(geometry(), 32));
  EXPECT_EQ(geometry().bytes_per_token(), (2 * (4 + 6) + 1 * (8 + 2)) * 4u);
  EXPECT_EQ(geometry(KvType::kF16).bytes_per_token(), (2 * (4 + 6) + 1 * (8 + 2)) * 2u);
  EXPECT_EQ(KvStore::bytes(geometry(), 32), 32 * geometry().bytes_per_token());
}

TEST(KvStore, ReserveCommitTruncate) {
  KvStore kv(geometry(), 64);
  const SeqId s = kv.create();
  const auto slots = kv.reserve(s, 20);
  ASSERT_TRUE(slots);
  EXPECT_EQ(slots->size(), 20u);
  EXPECT_EQ(std::set<int32_t>(slots->begin(), slots->end()).size(), 20u);
  EXPECT_EQ(kv.length(s), 0);
  EXPECT_EQ(kv.free_tokens(), 32);
  kv.commit(s, 10);  // the second block was only for the rest
  EXPECT_EQ(kv.length(s), 10);
  EXPECT_EQ(kv.slots(s).size(), 10u);
  EXPECT_EQ(kv.free_tokens(), 48);
  kv.truncate(s, 0);
  EXPECT_EQ(kv.free_tokens(), 64);
  kv.free(s);
}

TEST(KvStore, FullPoolIsNoneAndChangesNothing) {
  KvStore kv(geometry(), 32);
  const SeqId a = kv.create(), b = kv.create();
  ASSERT_TRUE(kv.reserve(a, 20));
  kv.commit(a, 20);
  EXPECT_FALSE(kv.reserve(b, 1));
  EXPECT_FALSE(kv.reserve(a, 13));
  EXPECT_FALSE(kv.reserve(a, 2147483647 - 20));
  EXPECT_TRUE(kv.reserve(a, 12));
  EXPECT_EQ(kv.length(a), 20);
  kv.free(a);
  EXPECT_TRUE(kv.reserve(b, 32));
}

TEST(KvStore, RepeatedReserveReplaces) {
  KvStore kv(geometry(), 64);
  const SeqId s = kv.create();
  ASSERT_TRUE(kv.reserve(s, 40));
  const auto slots = kv.reserve(s, 3);
  ASSERT_TRUE(slots);
  EXPECT_EQ(slots->size(), 3u);
  EXPECT_EQ(kv.free_tokens(), 48);
}

TEST(KvStore, SharedBlockIsCopiedBeforeAWrite) {
  KvStore kv(geometry(), 64);
  const SeqId a = kv.create();
  const auto slots = kv.reserve(a, 20);
  for (int i = 0; i < 20; i++)
    write_token(kv, (*slots)[static_cast<size_t>(i)], static_cast<float>(i));
  kv.commit(a, 20);
  const std::optional<SeqId> b = kv.share(a, 18);
  ASSERT_TRUE(b);
  EXPECT_EQ(kv.length(*b), 18);
  EXPECT_EQ(kv.free_tokens(), 32);  // nothing copied yet
  const auto appended = kv.reserve(*b, 1);
  ASSERT_TRUE(appended);
  write_token(kv, appended->front(), 77);
  kv.commit(*b, 1);
  for (int p = 0; p < 20; p++)
    EXPECT_TRUE(token_intact(kv, kv.slots(a)[static_cast<size_t>(p)], static_cast<float>(p))) << p;
  for (int p = 0; p < 18; p++)
    EXPECT_TRUE(token_intact(kv, kv.slots(*b)[static_cast<size_t>(p)], static_cast<float>(p))) << p;
  EXPECT_TRUE(token_intact(kv, kv.slots(*b)[18], 77));
}

// Any sequence of operations, against a model that keeps token values per sequence.
class KvOperations : public ::testing::TestWithParam<unsigned> {};

TEST_P(KvOperations, NothingLeaksAndNothingIsOverwritten) {
  constexpr int kCapacity = 20 * kKvBlock;
  KvStore kv(geometry(), kCapacity);
  std::mt19937 rng(GetParam());
  const auto pick = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  std::map<SeqId, std::vector<float>> model;
  float next_token = 0;
  int n_refused = 0;
  for (int step = 0; step < 3000; step++) {
    const int op = pick(10);
    if (model.empty() || (op == 0 && model.size() < 12)) {
      const SeqId id = kv.create();
      ASSERT_FALSE(model.contains(id));
      model[id];
      continue;
    }
    auto it = std::next(model.begin(), pick(static_cast<int>(model.size())));
    const SeqId seq = it->first;
    std::vector<float>& tokens = it->second;
    const int length = static_cast<int>(tokens.size());
    if (op == 1) {
      kv.free(seq);
      model.erase(it);
    } else if (op == 2) {
      const int keep = pick(length + 1);
      kv.truncate(seq, keep);
      tokens.resize(static_cast<size_t>(keep));
    } else if (op == 3 && model.size() < 12) {
      const int n = pick(length + 1);
      const std::optional<SeqId> copy = kv.share(seq, n);
      ASSERT_TRUE(copy);
      std::vector<float> prefix(tokens.begin(), tokens.begin() + n);
      model[*copy] = std::move(prefix);
    } else {
      const int n = 1 + pick(40);
      const auto slots = kv.reserve(seq, n);
      if (!slots) {
        n_refused++;
        // Refusing is only right when the pool cannot hold n more (one block more when the tail
        // must be copied).
        ASSERT_LT(kv.free_tokens(), n + 2 * kKvBlock);
        continue;
      }
      const int n_kept = pick(n + 1);
      for (int i = 0; i < n; i++) {
        write_token(kv, (*slots)[static_cast<size_t>(i)], next_token);
        if (i < n_kept) tokens.push_back(next_token);
        next_token++;
      }
      kv.commit(seq, n_kept);
    }
    std::set<int32_t> used;
    for (const auto& [id, expected] : model) {
      ASSERT_EQ(kv.length(id), static_cast<int>(expected.size()));
      ASSERT_EQ(kv.slots(id).size(), expected.size());
      for (int32_t slot : kv.slots(id)) used.insert(slot / kKvBlock);
    }
    ASSERT_EQ(kv.free_tokens() + static_cast<int>(used.size()) * kKvBlock, kCapacity);
    if (step % 20 != 0) continue;
    for (const auto& [id, expected] : model)
      for (size_t p = 0; p < expected.size(); p++)
        ASSERT_TRUE(token_intact(kv, kv.slots(id)[p], expected[p]))
            << "sequence " << id << " position " << p;
  }
  EXPECT_GT(n_refused, 0) << "the pool was never full: the test proves less than it says";
  for (const auto& [id, tokens] : model) kv.free(id);
  EXPECT_EQ(kv.free_tokens(), kCapacity);
}

INSTANTIATE_TEST_SUITE_P(Seeds, KvOperations, ::testing::Values(1u, 2u, 3u, 4u, 5u));

}  // namespace
}  // namespace hob
