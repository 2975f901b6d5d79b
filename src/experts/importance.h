#pragma once
// How important an expert is for a row, and what precision that deserves. Ref: HOBBIT (arXiv
// 2411.01433), section "token-level dynamic expert loading"; research notes, hobbit.md §1.3.
#include <cstdint>
#include <span>
#include <vector>

namespace hob {

enum class PrecisionMode : uint8_t { kExact, kMixed, kMixedSkip };

// What a row wants of an expert that is not in the cache. Ordered: a batch takes the maximum.
enum class Want : uint8_t { kSkip = 0, kLow = 1, kHigh = 2 };

struct Thresholds {
  float t1 = 0.6f, t2 = 0.9f;  // high up to t1, low up to t2, beyond skip. Ref: Mixtral's values.
};

// Gate weights of one row -> unimportance scores: the share of the row's weight that lies on
// strictly more important experts, of equal weights the earlier. The most important scores exactly
// 0 and is always wanted high.
void unimportance(std::span<const float> weights, std::span<float> scores);

// `rank0`: the row's most important expert.
Want wanted(float score, bool rank0, PrecisionMode mode, const Thresholds& thresholds);

// The scores at ranks >= 1 below which shares q1 and q2 of them lie (HOBBIT's 67 % / 97 %).
// `scores` is reordered; empty: Mixtral's values.
Thresholds quantile_thresholds(std::vector<float>& scores, double q1, double q2);

}  // namespace hob
