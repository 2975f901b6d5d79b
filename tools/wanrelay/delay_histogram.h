#pragma once
// Measured delays: counters whose width grows with the value (64 per power of two: 1.6 %), so that
// microseconds and minutes fit into one table and adding costs no search.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace hob::wan {

class DelayHistogram {
 public:
  void add(int64_t delay_ns) {
    const uint64_t us = static_cast<uint64_t>(std::max<int64_t>(delay_ns, 0)) / 1000;
    const size_t bucket = bucket_of(us);
    if (bucket >= counts_.size()) counts_.resize(bucket + 1);
    counts_[bucket]++;
    min_us_ = n_ == 0 ? us : std::min(min_us_, us);
    max_us_ = std::max(max_us_, us);
    n_++;
  }

  uint64_t n() const { return n_; }
  double min_ms() const { return to_ms(min_us_); }
  double max_ms() const { return to_ms(max_us_); }

  // The end of the bucket that holds it, so never too small; 0 without values.
  double quantile_ms(double q) const {
    const double rank = q * static_cast<double>(n_);
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); i++) {
      seen += counts_[i];
      if (seen > 0 && static_cast<double>(seen) >= rank)
        return to_ms(std::clamp(begin_of(i + 1) - 1, min_us_, max_us_));
    }
    return 0;
  }

  // Where each bucket that holds something begins, and how many it holds.
  std::vector<std::pair<double, uint64_t>> buckets() const {
    std::vector<std::pair<double, uint64_t>> out;
    for (size_t i = 0; i < counts_.size(); i++)
      if (counts_[i] > 0) out.emplace_back(to_ms(begin_of(i)), counts_[i]);
    return out;
  }

 private:
  static constexpr int kBits = 6;
  static constexpr uint64_t kPerOctave = uint64_t{1} << kBits;

  static double to_ms(uint64_t us) { return static_cast<double>(us) / 1000; }

  // Values below kPerOctave have a bucket each; above, the leading kBits + 1 bits choose.
  static size_t bucket_of(uint64_t us) {
    if (us < kPerOctave) return us;
    const int shift = std::bit_width(us) - kBits - 1;
    return (static_cast<size_t>(shift) << kBits) + (us >> shift);
  }
  static uint64_t begin_of(size_t bucket) {
    if (bucket < 2 * kPerOctave) return bucket;
    const size_t shift = (bucket >> kBits) - 1;
    return (bucket - (shift << kBits)) << shift;
  }

  std::vector<uint64_t> counts_;
  uint64_t n_ = 0, min_us_ = 0, max_us_ = 0;
};

}  // namespace hob::wan
