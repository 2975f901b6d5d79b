#include "wanrelay/direction.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/error.h"

namespace hob::wan {
namespace {

// One direction under load must not make the packets of the other late.
constexpr int kMaxTaken = 64;
// A flood through an unlimited rate and a long delay must not eat the machine's memory.
constexpr uint64_t kMaxBytesOnWay = 256 << 20;

bool is_ipv4(const uint8_t* bytes, size_t n_bytes) { return n_bytes > 0 && bytes[0] >> 4 == 4; }

std::string summary(const DelayHistogram& h) {
  return fmt::format(R"("min":{:.3f},"p50":{:.3f},"p90":{:.3f},"p99":{:.3f},"max":{:.3f})",
                     h.min_ms(), h.quantile_ms(.5), h.quantile_ms(.9), h.quantile_ms(.99),
                     h.max_ms());
}

}  // namespace

void Direction::take() {
  for (int i = 0; i < kMaxTaken; i++) {
    const ssize_t n = read(in_, buffer_.data(), buffer_.size());
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(Code::kIo, "[tun] expected to read a packet, {}", strerror(errno));
    admit(buffer_.data(), static_cast<size_t>(n));
  }
}

void Direction::admit(const uint8_t* bytes, size_t n_bytes) {
  // The kernel's own IPv6 chatter on a new device would move the fates of the packets that count.
  if (!is_ipv4(bytes, n_bytes)) return;
  n_packets_++;
  n_bytes_ += n_bytes;
  const int64_t now = now_ns();
  const Verdict verdict = line_.push(n_bytes, now);
  switch (verdict.fate) {
    case Fate::kLost:
      dropped_.loss++;
      return;
    case Fate::kQueueFull:
      dropped_.queue++;
      return;
    case Fate::kOutage:
      dropped_.outage++;
      return;
    case Fate::kPasses:
      break;
  }
  if (n_bytes_on_way_ + n_bytes > kMaxBytesOnWay) {
    dropped_.queue++;
    return;
  }
  n_bytes_on_way_ += n_bytes;
  on_way_.push_back({now, verdict.due_ns, {bytes, bytes + n_bytes}});
}

void Direction::deliver() {
  while (next_due_ns() <= now_ns()) {
    pass_on(on_way_.front());
    n_bytes_on_way_ -= on_way_.front().bytes.size();
    on_way_.pop_front();
  }
}

void Direction::pass_on(const Packet& packet) {
  // Before the write, which may run the receiver's whole TCP stack.
  const int64_t now = now_ns();
  if (line_.is_cut(now)) {
    dropped_.outage++;
    return;
  }
  ssize_t n;
  do {
    n = write(out_, packet.bytes.data(), packet.bytes.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    dropped_.device++;
    return;
  }
  n_delivered_++;
  delay_.add(now - packet.came_ns);
  late_.add(now - packet.due_ns);
}

std::string Direction::stats() const {
  std::vector<std::string> buckets;
  for (const auto& [begin_ms, n] : delay_.buckets())
    buckets.push_back(fmt::format("[{:.3f},{}]", begin_ms, n));
  return fmt::format(R"({{"packets":{},"bytes":{},"delivered":{},"in_flight":{},)"
                     R"("dropped":{{"loss":{},"queue":{},"outage":{},"device":{}}},)"
                     R"("delay_ms":{{{},"histogram":[{}]}},"late_ms":{{{}}}}})",
                     n_packets_, n_bytes_, n_delivered_, on_way_.size(), dropped_.loss,
                     dropped_.queue, dropped_.outage, dropped_.device, summary(delay_),
                     fmt::join(buckets, ","), summary(late_));
}

}  // namespace hob::wan
