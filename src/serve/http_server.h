#pragma once
// Sockets to handlers: one thread for all connections (Asio coroutines), two that parse and
// tokenise. Nothing of Boost shows here.
#include <memory>
#include <string>

#include "serve/limits.h"
#include "serve/serve_context.h"

namespace hob {

struct TlsFiles {
  std::string certificate, key;  // PEM; empty = plain HTTP
};

class HttpServer {
 public:
  // Listens; throws Error when it cannot. `port` 0 = any free one. Borrows `state`.
  HttpServer(ServeConfig config, int port, const HttpLimits& limits, const TlsFiles& tls,
             ServerState& state);
  ~HttpServer();  // stops

  void start();
  // Any thread. Ends connections at once, and with them their requests.
  void stop();
  int port() const;
  // Requests that have been read and not yet answered.
  int n_active() const;
  int n_connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob
