// Any sequence of operations on a KvStore, against a model that knows each sequence's tokens. What
// a position holds depends on the scope and all tokens up to it, so it gets a mark of exactly that:
// a block of another prompt, a stale hash or a write into shared memory shows as a wrong mark.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <ostream>
#include <random>
#include <set>

#include "unit/kv/kv_test_util.h"

namespace hob {
namespace {

struct Case {
  const char* name;
  unsigned seed;
  int hash_bits = 64;
  int n_nodes = 0;
  int window = 0;
  bool release = false;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

constexpr int kBlocks = 20;
constexpr int kMaxSequences = 12;

struct Sequence {
  uint64_t scope = 0;
  std::vector<int32_t> tokens;
  std::vector<uint32_t> marks;  // per position
};

class KvOperations : public testing::TestWithParam<Case> {
 protected:
  KvOperations()
      : kv_(test_geometry(KvType::kF32, GetParam().window), kBlocks * kKvBlock,
            {.seed = 3, .hash_bits = GetParam().hash_bits, .n_nodes = GetParam().n_nodes}),
        rng_(GetParam().seed) {
    // Prompts branch off from few texts, so that they often start equally.
    for (std::vector<int32_t>& text : texts_)
      for (int i = 0; i < 200; i++) text.push_back(pick(4));
    std::copy_n(texts_[0].begin(), 40, texts_[1].begin());
  }

  int pick(int n) { return static_cast<int>(rng_() % static_cast<unsigned>(n)); }

  uint32_t mark(uint64_t scope, uint32_t before, int32_t token) {
    const auto next = static_cast<uint32_t>(marks_.size()) + 1;
    return marks_.try_emplace({scope, before, token}, next).first->second;
  }

  std::vector<int32_t> some_prompt() {
    const std::vector<int32_t>& text = texts_[static_cast<size_t>(pick(2))];
    std::vector<int32_t> prompt(text.begin(), text.begin() + 1 + pick(120));
    for (int i = pick(4); i > 0; i--) prompt.push_back(4 + pick(2));
    return prompt;
  }

  // Position that the next one still sees, and that must therefore be there.
  int first_seen(int length) const {
    return GetParam().window == 0 ? 0 : std::max(0, length - GetParam().window + 1);
  }
  // Lengths that a sequence can be cut to without needing what was released.
  int some_length(SeqId seq, const Sequence& s) {
    const int length = static_cast<int>(s.tokens.size()), first = kv_.first_position(seq);
    const int least = first == 0 ? 0 : std::min(length, first + GetParam().window - 1);
    if (first > 0 && pick(4) == 0) return 0;
    return least + pick(length - least + 1);
  }

  void create() {
    const uint64_t scope = static_cast<uint64_t>(pick(2));
    const SeqId id = kv_.create(scope);
    ASSERT_FALSE(model_.contains(id));
    model_[id].scope = scope;
  }

  void attach(SeqId seq, Sequence& s) {
    const std::vector<int32_t> prompt = some_prompt();
    const int expected = kv_.cached_prefix(s.scope, prompt);
    const PrefixStats before = kv_.prefix_stats();
    const int n = kv_.attach_prefix(seq, prompt);
    ASSERT_EQ(n, expected);
    ASSERT_EQ(n % kKvBlock, 0);
    ASSERT_LT(n, static_cast<int>(prompt.size()));
    ASSERT_LE(kv_.first_position(seq), first_seen(n));
    ASSERT_EQ(kv_.prefix_stats().n_query_tok - before.n_query_tok, prompt.size());
    ASSERT_EQ(kv_.prefix_stats().n_hit_tok - before.n_hit_tok, static_cast<uint64_t>(n));
    uint32_t m = 0;
    for (int p = 0; p < n; p++) {
      const int32_t token = prompt[static_cast<size_t>(p)];
      s.tokens.push_back(token);
      s.marks.push_back(m = mark(s.scope, m, token));
    }
    check_content(seq, s);
    next_[seq] = {prompt.begin() + n, prompt.end()};
  }

  void extend(SeqId seq, Sequence& s) {
    std::vector<int32_t> tokens = std::move(next_[seq]);
    next_[seq].clear();
    if (tokens.empty())
      for (int i = 1 + pick(40); i > 0; i--) tokens.push_back(pick(4));
    const int n = static_cast<int>(tokens.size());
    const std::vector<int32_t> slots_before(kv_.slots(seq).begin(), kv_.slots(seq).end());
    const int n_free = kv_.n_free_blocks(), n_cached = kv_.n_cached_blocks();
    const int n_needed = kv_.blocks_needed(seq, n);
    const auto slots = kv_.reserve(seq, n);
    ASSERT_EQ(slots.has_value(), n_needed <= n_free);
    if (!slots) {
      n_refused_++;
      ASSERT_EQ(kv_.n_free_blocks(), n_free);
      ASSERT_EQ(kv_.n_cached_blocks(), n_cached);
      ASSERT_TRUE(std::ranges::equal(kv_.slots(seq), slots_before));
      return;
    }
    ASSERT_EQ(kv_.n_free_blocks(), n_free - n_needed);
    const int n_kept = pick(5) == 0 ? pick(n + 1) : n;
    uint32_t m = s.marks.empty() ? 0 : s.marks.back();
    for (int i = 0; i < n; i++) {
      const int32_t token = tokens[static_cast<size_t>(i)];
      m = mark(s.scope, m, token);
      write_mark(kv_, (*slots)[static_cast<size_t>(i)], m);
      if (i >= n_kept) continue;
      s.tokens.push_back(token);
      s.marks.push_back(m);
    }
    check_blocks();  // with reserved blocks
    if (pick(10) == 0)
      kv_.commit(seq, n_kept);
    else
      kv_.commit(seq, n_kept, std::span(tokens).first(static_cast<size_t>(n_kept)));
    const int length = static_cast<int>(s.tokens.size());
    if (GetParam().release && pick(2) == 0) kv_.release_before(seq, first_seen(length));
  }

  void share(SeqId seq, const Sequence& s) {
    const int n = some_length(seq, s);
    const int n_free = kv_.n_free_blocks();
    const std::optional<SeqId> copy = kv_.share(seq, n);
    ASSERT_TRUE(copy);
    ASSERT_EQ(kv_.n_free_blocks(), n_free);
    model_[*copy] = {
        s.scope, {s.tokens.begin(), s.tokens.begin() + n}, {s.marks.begin(), s.marks.begin() + n}};
  }

  void act() {
    const int op = pick(16);
    if (model_.empty() || (op <= 1 && model_.size() < kMaxSequences)) return create();
    const auto it = std::next(model_.begin(), pick(static_cast<int>(model_.size())));
    const SeqId seq = it->first;
    Sequence& s = it->second;
    if (op <= 3) {
      kv_.free(seq);
      next_.erase(seq);
      model_.erase(it);
    } else if (op == 4) {
      const int n = some_length(seq, s);
      kv_.truncate(seq, n);
      next_.erase(seq);
      s.tokens.resize(static_cast<size_t>(n));
      s.marks.resize(static_cast<size_t>(n));
    } else if (op == 5 && model_.size() < kMaxSequences) {
      share(seq, s);
    } else if (op == 6 && pick(40) == 0) {
      kv_.clear_prefix_cache();
      ASSERT_EQ(kv_.n_cached_blocks(), 0);
    } else if (s.tokens.empty() && kv_.slots(seq).empty() && next_[seq].empty()) {
      attach(seq, s);
    } else {
      extend(seq, s);
    }
  }

  // free + referenced = all.
  void check_blocks() {
    std::set<int32_t> used;
    for (const auto& [id, s] : model_) {
      const std::span<const int32_t> slots = kv_.slots(id);
      for (size_t p = static_cast<size_t>(kv_.first_position(id)); p < slots.size(); p++)
        used.insert(slots[p] / kKvBlock);
    }
    ASSERT_EQ(kv_.n_free_blocks() + static_cast<int>(used.size()), kBlocks);
    ASSERT_EQ(kv_.free_tokens(), kv_.n_free_blocks() * kKvBlock);
    ASSERT_LE(kv_.n_cached_blocks(), kBlocks);
  }

  void check_content(SeqId id, const Sequence& s) {
    ASSERT_EQ(kv_.length(id), static_cast<int>(s.tokens.size()));
    ASSERT_EQ(kv_.slots(id).size(), s.tokens.size());
    ASSERT_LE(kv_.first_position(id), first_seen(kv_.length(id)));
    for (size_t p = static_cast<size_t>(kv_.first_position(id)); p < s.tokens.size(); p++)
      ASSERT_TRUE(mark_intact(kv_, kv_.slots(id)[p], s.marks[p]))
          << "sequence " << id << " position " << p;
  }

  // A content that the index forgot to give up would take the place of one of these.
  void check_nothing_leaked() {
    for (const auto& [id, s] : model_) kv_.free(id);
    EXPECT_EQ(kv_.n_free_blocks(), kBlocks);
    kv_.clear_prefix_cache();
    EXPECT_EQ(kv_.n_cached_blocks(), 0);
    const SeqId all = kv_.create();
    ASSERT_TRUE(append(kv_, all, count_from(1000, kBlocks * kKvBlock)));
    const int n_nodes = GetParam().n_nodes;
    EXPECT_EQ(kv_.n_cached_blocks(), n_nodes > 0 ? std::min(n_nodes, kBlocks) : kBlocks);
  }

  KvStore kv_;
  std::mt19937 rng_;
  std::vector<int32_t> texts_[2];
  std::map<SeqId, Sequence> model_;
  std::map<SeqId, std::vector<int32_t>> next_;  // the rest of a prompt that was attached
  std::map<std::tuple<uint64_t, uint32_t, int32_t>, uint32_t> marks_;
  int n_refused_ = 0;
};

TEST_P(KvOperations, NothingLeaksAndNothingWrongIsSeen) {
  for (int step = 0; step < 4000; step++) {
    act();
    check_blocks();
    if (step % 10 == 0)
      for (const auto& [id, s] : model_) check_content(id, s);
    if (HasFatalFailure()) FAIL() << "step " << step;
  }
  EXPECT_GT(n_refused_, 20) << "the pool was never full: the test proves less than it says";
  EXPECT_GT(kv_.prefix_stats().n_hit_tok, 1000u) << "no hits: the same";
  EXPECT_GT(kv_.prefix_stats().n_evicted, 20u) << "no evictions: the same";
  check_nothing_leaked();
}

INSTANTIATE_TEST_SUITE_P(Cases, KvOperations,
                         testing::Values(Case{"plain1", 1}, Case{"plain2", 2}, Case{"plain3", 3},
                                         Case{"every_hash_collides", 4, 0},
                                         Case{"hash_of_2_bits", 5, 2},
                                         Case{"index_of_10", 6, 64, 10},
                                         Case{"window", 7, 64, 0, 40},
                                         Case{"window_released", 8, 64, 0, 40, true},
                                         Case{"window_released_collides", 9, 0, 0, 25, true},
                                         Case{"window_released_index_of_25", 10, 64, 25, 40, true}),
                         [](const auto& p) { return std::string(p.param.name); });

}  // namespace
}  // namespace hob
