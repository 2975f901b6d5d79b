#pragma once
// A link to an EdgeServer of the same process, for tests and simulators: frames are handed over at
// once, unless the caller's `deliver` delays or drops them.
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "edge/edge_server.h"
#include "edge/link.h"

namespace hob::edge {

class InProcessConnector : public Connector {
 public:
  // Borrowed. `server` may be replaced between calls: null = nobody answers.
  explicit InProcessConnector(EdgeServer* server, std::string principal = "")
      : server_(server), principal_(std::move(principal)) {}

  void set_server(EdgeServer* server) { server_ = server; }
  pb::Capabilities capabilities(const pb::CapabilitiesRequest& request) override {
    if (!server_) fail(Code::kIo, "[edge] expected a server, nobody answers");
    return server_->capabilities(request);
  }
  std::unique_ptr<Link> connect(std::shared_ptr<LinkEvents> events) override {
    if (!server_) {
      events->on_closed("nobody answers");
      return std::make_unique<DeadLink>();
    }
    return std::make_unique<LiveLink>(*server_, principal_, std::move(events));
  }

 private:
  struct DeadLink : Link {
    void send(pb::ClientFrame) override {}
  };

  // Frames to the edge; silent once the link has gone.
  struct Down : FrameSink {
    explicit Down(std::shared_ptr<LinkEvents> e) : events(std::move(e)) {}
    void send(pb::ServerFrame frame) override {
      const std::lock_guard lock(mutex);
      if (events) events->on_frame(std::move(frame));
    }
    void close() override {
      const std::lock_guard lock(mutex);
      if (const auto e = std::exchange(events, nullptr))
        e->on_closed("the server ended the stream");
    }
    std::mutex mutex;
    std::shared_ptr<LinkEvents> events;
  };

  struct LiveLink : Link {
    LiveLink(EdgeServer& server, const std::string& principal, std::shared_ptr<LinkEvents> events)
        : down(std::make_shared<Down>(std::move(events))),
          stream(server.connect(principal, down)) {}
    ~LiveLink() override {
      {
        const std::lock_guard lock(down->mutex);
        down->events.reset();
      }
      stream->on_closed();
    }
    void send(pb::ClientFrame frame) override { stream->on_frame(frame); }
    std::shared_ptr<Down> down;
    std::unique_ptr<ServerStream> stream;
  };

  EdgeServer* server_;
  std::string principal_;
};

}  // namespace hob::edge
