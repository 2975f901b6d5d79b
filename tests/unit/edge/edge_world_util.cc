#include "unit/edge/edge_world_util.h"

namespace hob::edge {

std::function<std::string(size_t)> counted_bytes(uint64_t seed) {
  struct State {
    std::mutex mutex;
    std::mt19937_64 rng;
  };
  const auto state = std::make_shared<State>();
  state->rng.seed(seed);
  return [state](size_t n) {
    const std::lock_guard lock(state->mutex);
    std::string out(n, '\0');
    for (char& c : out) c = static_cast<char>(state->rng());
    return out;
  };
}

ProtocolLimits test_limits(int max_context) {
  ProtocolLimits limits;
  limits.n_vocab = 320;
  limits.max_context = max_context;
  limits.max_nodes = 32;
  return limits;
}

TestServer::TestServer(const SessionOptions& options, EdgeServerOptions edge)
    : session_(options), options_(std::move(edge)) {
  if (!options_.random_bytes) options_.random_bytes = counted_bytes(5);
  start();
}

TestServer::~TestServer() {
  edge_.reset();
  core_->engine.reset();
}

void TestServer::start() {
  if (!core_) core_ = std::make_unique<Server>(session_);
  if (!core_->engine)
    core_->engine = std::make_unique<CompletionEngine>(
        *core_->session, *core_->tokenizer,
        CompletionEngineOptions{.max_seqs = session_.n_seqs, .max_queue = 512});
  service_ = std::make_unique<EngineService>(*core_->engine);
  EdgeServerOptions o = options_;
  o.limits = test_limits(core_->engine->max_model_len());
  o.model = "tiny";
  o.tokenizer = identify(*core_->tokenizer, "");
  edge_ = std::make_unique<EdgeServer>(*service_, std::move(o));
}

void TestServer::restart() {
  edge_.reset();
  core_->engine.reset();
  start();
}

struct ChaosNet::Wire {
  std::mutex mutex;
  std::shared_ptr<LinkEvents> events;    // null: the edge has let go
  std::unique_ptr<ServerStream> stream;  // null: the server has gone
  bool dead = false;                     // nothing passes any more
};

// Called by the engine's thread, under the session's lock: must not call the stream.
class ChaosNet::Down : public FrameSink {
 public:
  Down(ChaosNet& net, std::shared_ptr<Wire> wire) : net_(net), wire_(std::move(wire)) {}
  void send(pb::ServerFrame frame) override {
    const bool cut = net_.happens(net_.chaos_.cut) || net_.cut_all_.exchange(false) || net_.away_;
    const bool hole = net_.happens(net_.chaos_.hole);
    const std::lock_guard lock(wire_->mutex);
    if (wire_->dead) return;
    wire_->dead = cut || hole;
    if (!wire_->events || hole) return;
    if (cut)
      wire_->events->on_closed("cut");
    else
      wire_->events->on_frame(std::move(frame));
  }
  void close() override {
    const std::lock_guard lock(wire_->mutex);
    if (wire_->dead) return;
    wire_->dead = true;
    if (wire_->events) wire_->events->on_closed("the server ended the stream");
  }

 private:
  ChaosNet& net_;
  const std::shared_ptr<Wire> wire_;
};

class ChaosNet::Up : public Link {
 public:
  Up(ChaosNet& net, std::shared_ptr<Wire> wire) : net_(net), wire_(std::move(wire)) {}
  ~Up() override {
    {
      const std::lock_guard lock(wire_->mutex);
      wire_->events.reset();
      wire_->dead = true;
    }
    if (const auto stream = std::move(wire_->stream)) stream->on_closed();
  }
  void send(pb::ClientFrame frame) override {
    const bool cut = net_.happens(net_.chaos_.cut) || net_.away_;
    const bool hole = net_.happens(net_.chaos_.hole);
    {
      const std::lock_guard lock(wire_->mutex);
      if (wire_->dead) return;
      wire_->dead = cut || hole;
      if (cut && wire_->events) wire_->events->on_closed("cut");
      if (wire_->dead) return;
    }
    if (!wire_->stream) return;
    wire_->stream->on_frame(frame);
    if (net_.happens(net_.chaos_.duplicate)) wire_->stream->on_frame(frame);
    if (!old_.empty() && net_.happens(net_.chaos_.stale))
      wire_->stream->on_frame(old_[old_.size() / 2]);
    if (frame.has_draft()) old_.push_back(frame);
  }

 private:
  ChaosNet& net_;
  const std::shared_ptr<Wire> wire_;
  std::vector<pb::ClientFrame> old_;
};

bool ChaosNet::happens(double probability) {
  if (probability <= 0) return false;
  const std::lock_guard lock(mutex_);
  const bool yes = std::uniform_real_distribution<>()(rng_) < probability;
  n_faults_ += yes ? 1 : 0;
  return yes;
}

pb::Capabilities ChaosNet::capabilities(const pb::CapabilitiesRequest& request) {
  return server_.edge().capabilities(request);
}

void ChaosNet::restart() {
  for (const std::weak_ptr<Wire>& w : wires_) {
    const std::shared_ptr<Wire> wire = w.lock();
    if (!wire) continue;
    std::unique_ptr<ServerStream> stream;
    {
      const std::lock_guard lock(wire->mutex);
      if (!wire->dead && wire->events) wire->events->on_closed("the server has gone");
      wire->dead = true;
      stream = std::move(wire->stream);
    }
    if (stream) stream->on_closed();
  }
  wires_.clear();
  server_.restart();
}

std::unique_ptr<Link> ChaosNet::connect(std::shared_ptr<LinkEvents> events) {
  if (happens(chaos_.restart)) restart();
  const auto wire = std::make_shared<Wire>();
  wire->events = std::move(events);
  wire->stream = server_.edge().connect("tenant", std::make_shared<Down>(*this, wire));
  wires_.push_back(wire);
  return std::make_unique<Up>(*this, wire);
}

EdgeLoopOptions test_loop_options(const Tokenizer& tokenizer, uint64_t seed) {
  EdgeLoopOptions o;
  o.session.limits = test_limits();
  o.session.seed = seed;
  o.session.first_backoff_us = 1'000;
  o.session.most_backoff_us = 20'000;
  o.session.least_silence_us = 20'000;
  o.session.most_silence_us = 60'000;
  o.session.patience_us = 120'000'000;
  o.tokenizer = identify(tokenizer, "");
  o.tokenizer.clear_probes();
  o.model = "tiny";
  o.max_depth = 8;
  o.mode = EdgeMode::kTree;
  o.random_bytes = counted_bytes(seed);
  return o;
}

}  // namespace hob::edge
