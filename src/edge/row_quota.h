#pragma once
// Verified rows per second of a tenant: a token bucket. Ref: research notes, specedge §4.4.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "edge/server_session.h"

namespace hob::edge {

// Any thread.
class TokenBucket : public RowQuota {
 public:
  // Full, it holds `burst_s` seconds' worth, and one largest tree at least.
  TokenBucket(double rows_per_s, int largest, double burst_s = 1)
      : rate_(rows_per_s), most_(std::max<double>(largest, rows_per_s * burst_s)), rows_(most_) {}

  int take(int n, int64_t now_us, int64_t& retry_after_us) override {
    const std::lock_guard lock(mutex_);
    if (last_us_ >= 0)  // a clock that jumps back gives nothing and takes nothing
      rows_ =
          std::min(most_, rows_ + rate_ * 1e-6 *
                                      static_cast<double>(std::max<int64_t>(0, now_us - last_us_)));
    last_us_ = now_us;
    const int granted = std::min(n, static_cast<int>(rows_));
    rows_ -= granted;
    retry_after_us = granted > 0 ? 0 : static_cast<int64_t>(std::ceil((1 - rows_) / rate_ * 1e6));
    return granted;
  }

 private:
  const double rate_, most_;
  std::mutex mutex_;
  double rows_;
  int64_t last_us_ = -1;
};

}  // namespace hob::edge
