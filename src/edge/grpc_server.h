#pragma once
// edgespec.v1 over gRPC, the server's side.
#include <memory>
#include <string>
#include <vector>

#include "edge/edge_server.h"
#include "serve/auth.h"

namespace hob::edge {

struct GrpcServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0 = any free one
  // PEM texts. With a certificate: TLS; with client_ca besides: mTLS, and an edge's tenant is its
  // certificate's name.
  std::string certificate, key, client_ca;
  std::vector<std::string> denied;  // names of certificates that are not accepted any more
  ApiKeys keys;                     // not empty: edges need one, and their tenant is that
  size_t max_frame_bytes = 1 << 20;
  int pad_bytes = 0;       // frames grow to multiples of it
  int max_streams = 1024;  // of one connection
};

class GrpcServer {
 public:
  // Borrows the server; listens. Throws Error(kIo) when it cannot.
  GrpcServer(EdgeServer& server, const GrpcServerOptions& options);
  // Ends all streams; their sessions stay.
  ~GrpcServer();
  int port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob::edge
