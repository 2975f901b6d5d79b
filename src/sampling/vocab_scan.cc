#include "sampling/vocab_scan.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"

namespace hob {
namespace {

// Lanes that the compiler keeps in vector registers: a plain running maximum would forbid that, as
// it fixes the order.
constexpr size_t kLanes = 16;

// The maximum; `bad` becomes true when any is NaN or +inf.
float max_of_block(const float* x, bool& bad) {
  float most[kLanes];
  int n_bad[kLanes] = {};
  std::fill(most, most + kLanes, -INFINITY);
  for (size_t i = 0; i < kScanBlock; i += kLanes)
    for (size_t j = 0; j < kLanes; j++) {
      most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
      n_bad[j] += x[i + j] < INFINITY ? 0 : 1;
    }
  int sum = 0;
  for (int n : n_bad) sum += n;
  bad = bad || sum > 0;
  return *std::max_element(most, most + kLanes);
}

[[noreturn]] void fail_bad(std::span<const float> logits) {
  const auto it =
      std::find_if(logits.begin(), logits.end(), [](float x) { return !(x < INFINITY); });
  fail(Code::kInternal, "[sampling] expected finite logits, token {} has {}", it - logits.begin(),
       *it);
}

}  // namespace

void VocabScan::scan(std::span<const float> logits) {
  logits_ = logits;
  block_max_.resize((logits.size() + kScanBlock - 1) / kScanBlock);
  bool bad = false;
  const size_t n_whole = logits.size() / kScanBlock;
  for (size_t b = 0; b < n_whole; b++)
    block_max_[b] = max_of_block(logits.data() + b * kScanBlock, bad);
  if (n_whole < block_max_.size()) {
    float last[kScanBlock];
    std::fill(last, last + kScanBlock, -INFINITY);
    std::copy(logits.begin() + static_cast<std::ptrdiff_t>(n_whole * kScanBlock), logits.end(),
              last);
    block_max_[n_whole] = max_of_block(last, bad);
  }
  if (bad) fail_bad(logits);
  if (std::all_of(block_max_.begin(), block_max_.end(), [](float x) { return x == -INFINITY; }))
    fail(Code::kInternal, "[sampling] expected at least one finite logit, got {} of -inf",
         logits.size());
}

Candidate VocabScan::best() const {
  const auto block = std::max_element(block_max_.begin(), block_max_.end());  // the first of equals
  const auto first =
      logits_.begin() + (block - block_max_.begin()) * static_cast<std::ptrdiff_t>(kScanBlock);
  const auto it = std::find(first, logits_.end(), *block);
  return {*it, static_cast<int32_t>(it - logits_.begin())};
}

float VocabScan::lower_bound_of_top(size_t k) const {
  if (k > block_max_.size()) return -INFINITY;
  order_ = block_max_;  // k blocks have a logit that is at least the k-th of these
  const auto kth = order_.begin() + static_cast<std::ptrdiff_t>(k) - 1;
  std::nth_element(order_.begin(), kth, order_.end(), std::greater<>());
  return *kth;
}

void VocabScan::collect(double floor, std::vector<Candidate>& out) const {
  out.clear();
  for (size_t b = 0; b < block_max_.size(); b++) {
    if (block_max_[b] == -INFINITY || block_max_[b] < floor) continue;
    const size_t end = std::min((b + 1) * kScanBlock, logits_.size());
    for (size_t i = b * kScanBlock; i < end; i++)
      if (logits_[i] >= floor && logits_[i] != -INFINITY)
        out.push_back({logits_[i], static_cast<int32_t>(i)});
  }
}

}  // namespace hob
