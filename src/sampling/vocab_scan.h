#pragma once
// One pass over a row of logits, and what follows from it: a vocabulary has 10^5 tokens, of which
// samplers want a few, so nothing is copied before it is known to matter.
#include <cstdint>
#include <span>
#include <vector>

namespace hob {

// A total order (ties to the lower id), so that every filter keeps the same tokens whatever the
// sort algorithm does.
struct Candidate {
  float logit;
  int32_t token;
};
inline bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

inline constexpr size_t kScanBlock = 64;

class VocabScan {
 public:
  // Borrows the logits. Throws Error(kInternal) on NaN or +inf (a broken model or a bug: never
  // sample from that), or when all are -inf.
  void scan(std::span<const float> logits);

  std::span<const float> logits() const { return logits_; }
  float block_max(size_t block) const { return block_max_[block]; }
  size_t n_blocks() const { return block_max_.size(); }
  Candidate best() const;  // by better()
  // No fewer than min(k, the finite ones) logits are at least this; mostly not many more.
  float lower_bound_of_top(size_t k) const;
  // All finite logits >= floor, in the order of their ids.
  void collect(double floor, std::vector<Candidate>& out) const;

 private:
  std::span<const float> logits_;
  std::vector<float> block_max_;
  mutable std::vector<float> order_;  // scratch of lower_bound_of_top()
};

}  // namespace hob
