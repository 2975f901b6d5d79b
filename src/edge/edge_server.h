#pragma once
// All generations of a server's edges: which session a stream belongs to, who may resume it, how
// long it waits for its edge. Carries out what the sessions want (server_session.h). No transport:
// grpc_server.h is one, tests bring others. Ref: research notes, specedge §4.7, §4.8.
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "edge/compatibility.h"
#include "edge/protocol.h"
#include "serve/completion_service.h"

namespace hob::edge {

// Towards the edge; any thread, must not block. `close`: nothing follows this frame.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  virtual void send(pb::ServerFrame frame) = 0;
  virtual void close() = 0;
};

// One stream of an edge. Frames come one at a time, from any thread.
class ServerStream {
 public:
  virtual ~ServerStream() = default;
  virtual void on_frame(const pb::ClientFrame& frame) = 0;
  virtual void on_closed() = 0;  // last call; the session waits for a Resume
};

struct EdgeServerOptions {
  ProtocolLimits limits;
  std::string model;  // what edges may call it; "" in Open means it too
  std::vector<std::string> aliases;
  std::string weights_digest;
  pb::TokenizerId tokenizer;  // compatibility.h
  std::chrono::milliseconds resume_ttl{30'000};
  int max_sessions = 256;  // attached or waiting, of all tenants
  int max_tenant_sessions = 256;
  bool may_stream = true;  // decode by itself when an edge wishes so
  bool drafts = false;     // ... and it drafts for itself then
  double rows_per_s = 0;   // of a tenant; 0 = no limit
  // Tests and simulators bring their own.
  std::function<int64_t()> now_us;
  std::function<std::string(size_t n_bytes)> random_bytes;
};

class EdgeServer {
 public:
  EdgeServer(CompletionService& service, EdgeServerOptions options);
  // Cancels all generations. No stream may be used any more.
  ~EdgeServer();

  // Throws Error when the edge could not work with this server, saying what differs.
  pb::Capabilities capabilities(const pb::CapabilitiesRequest& request) const;
  // `principal`: who the transport says the edge is; "" = anybody.
  std::unique_ptr<ServerStream> connect(const std::string& principal,
                                        std::shared_ptr<FrameSink> sink);
  // Forgets sessions that have waited too long. Every second or so.
  void expire();
  // Takes no more sessions and tells all edges to go on elsewhere.
  void drain();
  int n_sessions() const;

 private:
  class Registry;
  class Session;
  class Stream;
  std::shared_ptr<Registry> registry_;
};

}  // namespace hob::edge
