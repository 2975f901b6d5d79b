#pragma once
// A server with a real (tiny) model, an edge, and between them a network that misbehaves on demand.
#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "edge/edge_server.h"
#include "edge/edge_service.h"
#include "serve/engine_service.h"
#include "unit/engine/serving_test_util.h"

namespace hob::edge {

// Bytes for ids and tokens: different at each call, the same in each run.
std::function<std::string(size_t)> counted_bytes(uint64_t seed);

ProtocolLimits test_limits(int max_context = 128);

// Engine and edge server; restarting it loses everything but the model.
class TestServer {
 public:
  explicit TestServer(const SessionOptions& options, EdgeServerOptions edge = {});
  ~TestServer();
  void restart();
  EdgeServer& edge() { return *edge_; }
  Server& core() { return *core_; }

 private:
  void start();
  const SessionOptions session_;
  EdgeServerOptions options_;
  std::unique_ptr<Server> core_;
  std::unique_ptr<EngineService> service_;
  std::unique_ptr<EdgeServer> edge_;
};

struct Chaos {
  double cut = 0;        // a frame breaks its link instead of arriving
  double hole = 0;       // from this frame on the link swallows all, without a word
  double restart = 0;    // a new link finds another server
  double duplicate = 0;  // a frame of the edge arrives twice
  double stale = 0;      // an old frame of the edge arrives again
  uint64_t seed = 1;
};

// An in-process network. Calls to connect() and send() come from one thread, the edge's.
class ChaosNet : public Connector {
 public:
  ChaosNet(TestServer& server, const Chaos& chaos)
      : server_(server), chaos_(chaos), rng_(chaos.seed) {}
  pb::Capabilities capabilities(const pb::CapabilitiesRequest& request) override;
  std::unique_ptr<Link> connect(std::shared_ptr<LinkEvents> events) override;

  // From any thread: every link breaks (or falls silent) with its next frame.
  void cut_all() { cut_all_ = true; }
  // While it is away no link comes about; those that are there break with their next frame.
  void set_away(bool away) { away_ = away; }
  int n_faults() const { return n_faults_; }

 private:
  struct Wire;
  class Down;
  class Up;
  bool happens(double probability);
  void restart();

  TestServer& server_;
  const Chaos chaos_;
  std::mutex mutex_;  // of what follows
  std::mt19937_64 rng_;
  std::atomic<bool> cut_all_{false}, away_{false};
  std::atomic<int> n_faults_{0};
  std::vector<std::weak_ptr<Wire>> wires_;
};

// Time-outs that suit a test.
EdgeLoopOptions test_loop_options(const Tokenizer& tokenizer, uint64_t seed);

}  // namespace hob::edge
