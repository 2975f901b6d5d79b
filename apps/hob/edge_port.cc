#include "edge_port.h"

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <sstream>

#include "base/error.h"
#include "command.h"

namespace hob::app {
namespace {

const std::map<std::string, DraftBatching> kBatchings = {{"go", DraftBatching::kGo},
                                                         {"coalesce", DraftBatching::kCoalesce},
                                                         {"halves", DraftBatching::kHalves}};

}  // namespace

DraftBatching draft_batching(const EdgePortOptions& o) { return kBatchings.at(o.batching); }

void add_edge_port_options(CLI::App& app, EdgePortOptions& o) {
  app.add_option("--edge-port", o.port,
                 "also verify what `hob edge` on other machines drafts; 0 = any free port")
      ->check(CLI::Range(0, 65535));
  app.add_option("--edge-client-ca", o.client_ca,
                 "PEM: edges show a certificate of this authority (wants --tls-cert)");
  app.add_option("--edge-deny", o.denied,
                 "name in a certificate that is not accepted any more; may be given often");
  app.add_option("--edge-sessions", o.max_sessions, "most answers of edges at once")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--edge-resume", o.resume_s, "seconds that an answer waits for a lost edge")
      ->check(CLI::Range(1, 86400));
  app.add_option(
         "--edge-batching", o.batching,
         "when a step of drafts begins. go: with whoever is there; coalesce: a little later "
         "if that saves time on the whole; halves: with half of all, as published")
      ->check(CLI::IsMember(kBatchings));
  app.add_option("--edge-pad", o.pad, "bytes: frames to edges grow to multiples of it")
      ->check(CLI::Range(0, 4096));
  app.add_flag("--edge-no-stream", o.no_stream,
               "verify drafts only: an edge may not have this machine write by itself");
  app.add_option("--edge-rows", o.rows_per_s, "rows per second that a tenant may have verified")
      ->check(number_in(1, 1e9));
}

std::string read_text_file(const std::string& path, const char* what) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in || text.str().empty())
    fail(Code::kNotFound, "[{}] expected a PEM file, cannot read {}", what, path);
  return text.str();
}

EdgePort::EdgePort(const EdgePortOptions& o, const HttpOptions& http, ModelSession& session,
                   const LoadedModel& model, CompletionService& service, bool drafts) {
  if (!o.on()) return;
  if (!o.client_ca.empty() && http.tls.certificate.empty())
    throw UsageError("[usage] --edge-client-ca: expected --tls-cert and --tls-key too");
  const EngineLimits& engine = session.engine().limits();
  edge::EdgeServerOptions server;
  server.limits.n_vocab = session.layout().spec.n_vocab;
  server.limits.max_context = service.max_model_len();
  server.limits.max_nodes = std::min(server.limits.max_nodes, engine.max_logit_rows - 1);
  server.model = model.facts.name;
  server.aliases = model.facts.aliases;
  server.weights_digest = model.facts.digest;
  server.tokenizer = edge::identify(*model.tokenizer, model.facts.chat_template);
  server.resume_ttl = std::chrono::seconds(o.resume_s);
  server.max_sessions = server.max_tenant_sessions = o.max_sessions;
  server.may_stream = !o.no_stream;
  server.drafts = drafts;
  server.rows_per_s = o.rows_per_s;
  edge::GrpcServerOptions grpc;
  grpc.host = http.config.host;
  grpc.port = o.port;
  grpc.keys = http.config.keys;
  grpc.denied = o.denied;
  grpc.pad_bytes = o.pad;
  grpc.max_frame_bytes = edge::max_frame_bytes(server.limits);
  if (!http.tls.certificate.empty()) {
    grpc.certificate = read_text_file(http.tls.certificate, "tls");
    grpc.key = read_text_file(http.tls.key, "tls");
    if (!o.client_ca.empty()) grpc.client_ca = read_text_file(o.client_ca, "tls");
  }
  server_ = std::make_unique<edge::EdgeServer>(service, std::move(server));
  grpc_ = std::make_unique<edge::GrpcServer>(*server_, grpc);
}

void EdgePort::drain() {
  if (server_) server_->drain();
}

}  // namespace hob::app
