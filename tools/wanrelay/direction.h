#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "wanrelay/delay_histogram.h"
#include "wanrelay/delay_line.h"

namespace hob::wan {

// Copies IP packets from one TUN device to another through a DelayLine. Owns neither descriptor.
class Direction {
 public:
  Direction(int in, int out, const LineConfig& config, uint64_t seed)
      : in_(in), out_(out), line_(config, seed) {}

  // Reads what the kernel has, a bounded number of packets.
  void take();
  // Writes what is due.
  void deliver();
  // Of the next packet; kForever without one.
  int64_t next_due_ns() const { return on_way_.empty() ? kForever : on_way_.front().due_ns; }

  DelayLine& line() { return line_; }
  // One JSON object. packets = delivered + all that was dropped + in_flight.
  std::string stats() const;

 private:
  struct Packet {
    int64_t came_ns, due_ns;
    std::vector<uint8_t> bytes;
  };
  struct Dropped {
    uint64_t loss = 0, queue = 0, outage = 0, device = 0;
  };

  void admit(const uint8_t* bytes, size_t n_bytes);
  void pass_on(const Packet& packet);

  int in_, out_;
  DelayLine line_;
  std::deque<Packet> on_way_;
  uint64_t n_bytes_on_way_ = 0;
  std::array<uint8_t, 65536> buffer_;
  uint64_t n_packets_ = 0, n_bytes_ = 0, n_delivered_ = 0;
  Dropped dropped_;
  DelayHistogram delay_;  // from read to write
  DelayHistogram late_;   // beyond what the line asked for: the relay's own share
};

}  // namespace hob::wan
