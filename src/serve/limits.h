#pragma once
// What one client may cost. Ref: research notes, serving §5.2 items 28, 29, 37.
#include <chrono>
#include <cstddef>

namespace hob {

struct HttpLimits {
  using Duration = std::chrono::milliseconds;

  size_t max_header_bytes = 16 << 10;
  size_t max_body_bytes = 8 << 20;
  // Bodies that are being received, all connections together: they live in the memory budget.
  size_t max_bodies_bytes = 16 << 20;
  int max_connections = 2048;

  Duration header_time{10'000};  // from a connection's (or request's) first byte to its head's end
  Duration body_time{60'000};    // for the body
  Duration idle_time{75'000};    // between requests of a connection
  Duration write_time{30'000};   // without any progress while the client does not read
  Duration handshake_time{10'000};  // TLS
  Duration ping_interval{15'000};
  size_t max_buffered_bytes = 1 << 20;  // of a request's answer, for a client that reads slowly
};

}  // namespace hob
