#pragma once
// --edge-port: `hob serve` also verifies for edges.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "edge/grpc_server.h"
#include "engine/model_session.h"
#include "http_options.h"

namespace hob::app {

struct EdgePortOptions {
  int port = -1;  // -1 = none
  std::string client_ca;
  int max_sessions = 256;
  int resume_s = 30;
  bool no_stream = false;
  int pad = 0;
  std::vector<std::string> denied;
  double rows_per_s = 0;
  std::string batching = "coalesce";
  bool on() const { return port >= 0; }
};

DraftBatching draft_batching(const EdgePortOptions& options);

void add_edge_port_options(CLI::App& app, EdgePortOptions& options);

std::string read_text_file(const std::string& path, const char* what);

class EdgePort {
 public:
  // Listens, if the options say so. Borrows the service and the model's tokenizer.
  EdgePort(const EdgePortOptions& options, const HttpOptions& http, ModelSession& session,
           const LoadedModel& model, CompletionService& service, bool drafts);
  int port() const { return grpc_ ? grpc_->port() : 0; }
  void drain();

 private:
  std::unique_ptr<edge::EdgeServer> server_;
  std::unique_ptr<edge::GrpcServer> grpc_;
};

}  // namespace hob::app
