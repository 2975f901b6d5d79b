#pragma once
// edgespec.v1 over gRPC, the edge's side: one connection, a stream per generation.
#include <memory>
#include <string>

#include "edge/link.h"

namespace hob::edge {

struct GrpcLinkOptions {
  std::string address;  // HOST:PORT
  bool tls = false;
  // PEM texts: whom to trust ("" = the system's list), and for mTLS who we are.
  std::string server_ca, certificate, key;
  std::string server_name;  // of its certificate, if not the host's
  std::string api_key;
  int pad_bytes = 0;  // frames grow to multiples of it: sizes tell less
  int connect_timeout_ms = 5'000;
};

std::unique_ptr<Connector> make_grpc_connector(const GrpcLinkOptions& options);

}  // namespace hob::edge
