#pragma once
// How frames travel: gRPC (grpc_link.h), or whatever a test puts in its place.
#include <functional>
#include <memory>
#include <string>

#include "edge/protocol.h"

namespace hob::edge {

// What a link tells; from any thread, one call at a time. on_closed() is the last.
class LinkEvents {
 public:
  virtual ~LinkEvents() = default;
  virtual void on_frame(pb::ServerFrame frame) = 0;
  virtual void on_closed(const std::string& why) = 0;
};

// A stream to the server. Frames arrive in order, each once, or the link closes.
class Link {
 public:
  virtual ~Link() = default;  // closes it; no event comes afterwards
  virtual void send(pb::ClientFrame frame) = 0;
};

class Connector {
 public:
  virtual ~Connector() = default;
  // Throws Error when the server cannot be reached or refuses.
  virtual pb::Capabilities capabilities(const pb::CapabilitiesRequest& request) = 0;
  // At once; what goes wrong comes as on_closed().
  virtual std::unique_ptr<Link> connect(std::shared_ptr<LinkEvents> events) = 0;
};

}  // namespace hob::edge
