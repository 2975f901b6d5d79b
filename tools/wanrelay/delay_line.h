#pragma once
// One direction of an emulated wide-area path, in virtual time: no clock, no system call. The
// caller asks when a packet leaves and keeps the packet until then.
//
//   queue in front of the link -> link of a given rate -> loss -> delay and jitter
//
// A lost packet has used the link. Packets never overtake each other. Jitter only adds to the
// delay, so the delay is a lower bound whatever else is set.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace hob::wan {

constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

struct LineConfig {
  int64_t delay_ns = 0;
  int64_t jitter_ns = 0;  // uniform in [0, jitter_ns)
  double rate_bit_s = 0;  // 0: unlimited
  double loss = 0;        // share of the packets, 0 to 1
  uint64_t queue_bytes = 256 << 10;
};

enum class Fate { kPasses, kLost, kQueueFull, kOutage };

struct Verdict {
  Fate fate;
  int64_t due_ns;  // when it leaves, if it passes
};

class DelayLine {
 public:
  DelayLine(const LineConfig& config, uint64_t seed) : config_(config), seed_(seed) {}

  // `now_ns` never goes back.
  Verdict push(uint64_t n_bytes, int64_t now_ns) {
    const uint64_t packet = n_packets_++;
    if (is_cut(now_ns)) return {Fate::kOutage, 0};
    if (waiting_bytes(now_ns) + static_cast<double>(n_bytes) >
        static_cast<double>(config_.queue_bytes))
      return {Fate::kQueueFull, 0};
    link_free_ns_ = std::max(link_free_ns_, now_ns) + serialisation_ns(n_bytes);
    if (draw(2 * packet) < config_.loss) return {Fate::kLost, 0};
    const double jitter = draw(2 * packet + 1) * static_cast<double>(config_.jitter_ns);
    const int64_t due = link_free_ns_ + config_.delay_ns + static_cast<int64_t>(jitter);
    last_due_ns_ = std::max(last_due_ns_, due);
    return {Fate::kPasses, last_due_ns_};
  }

  // For packets to come; those on the way keep theirs.
  void set_delay(int64_t delay_ns) { config_.delay_ns = delay_ns; }

  // An outage until then. It takes the packets that enter; a caller that asks is_cut() when they
  // leave takes those on the way too.
  void cut_until(int64_t end_ns) { cut_end_ns_ = end_ns; }
  void restore() { cut_end_ns_ = 0; }
  bool is_cut(int64_t now_ns) const { return now_ns < cut_end_ns_; }

  // In the queue, with the rest of the packet that is being sent.
  double waiting_bytes(int64_t now_ns) const {
    const int64_t busy_ns = std::max<int64_t>(link_free_ns_ - now_ns, 0);
    return static_cast<double>(busy_ns) * config_.rate_bit_s / 8e9;
  }

 private:
  int64_t serialisation_ns(uint64_t n_bytes) const {
    if (config_.rate_bit_s == 0) return 0;
    return std::llround(static_cast<double>(n_bytes) * 8e9 / config_.rate_bit_s);
  }

  // In [0, 1), a function of seed and index alone: which packets are lost depends neither on the
  // other settings nor on what the queue did. Ref: SplitMix64 (Steele, Lea, Flood 2014).
  double draw(uint64_t index) const {
    uint64_t z = seed_ + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return std::ldexp(static_cast<double>(z >> 11), -53);
  }

  LineConfig config_;
  uint64_t seed_;
  uint64_t n_packets_ = 0;
  int64_t link_free_ns_ = 0;
  int64_t last_due_ns_ = 0;
  int64_t cut_end_ns_ = 0;
};

}  // namespace hob::wan
