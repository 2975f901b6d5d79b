// hob edge: drafts here, has another machine verify, and serves the answers as `hob serve` does.
#include <fmt/format.h>
#include <openssl/rand.h>

#include <fstream>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "command.h"
#include "draft_options.h"
#include "edge/compatibility.h"
#include "edge/edge_service.h"
#include "edge/grpc_link.h"
#include "edge_port.h"
#include "format/gguf.h"
#include "http_options.h"
#include "options.h"
#include "output.h"
#include "serve_model.h"
#include "speculative/model_drafter.h"
#include "speculative/ngram_drafter.h"

namespace hob::app {
namespace {

constexpr const char* kNgram = "ngram";
// What a node adds to a round, of which the way is most, until that has been measured.
constexpr double kRowShare = 0.02;

struct Options {
  CommonOptions common;  // of the draft model
  HttpOptions http;
  std::string draft, tokenizer, server;
  bool tls = false;
  std::string server_ca, server_name, client_cert, client_key, key_file;
  bool always = false;
  int max_guesses = 16;
  int max_nodes = 16, max_answers = 8, patience_s = 300, pad = 0;
};

void check_options(Options& o) {
  check_http_options(o.http);
  if (o.draft == kNgram && o.tokenizer.empty())
    throw UsageError("[usage] --draft ngram: expected --tokenizer MODEL.gguf for its vocabulary");
  if (o.client_cert.empty() != o.client_key.empty())
    throw UsageError("[usage] expected --client-cert and --client-key together, got one of them");
  o.tls = o.tls || !o.server_ca.empty() || !o.client_cert.empty();
}

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line))
    if (!line.empty() && line[0] != '#') return line;
  fail(Code::kNotFound, "[edge] --server-key-file: expected a key, {} has none", path);
}

edge::GrpcLinkOptions link_options(const Options& o) {
  edge::GrpcLinkOptions l;
  l.address = o.server;
  l.tls = o.tls;
  l.server_name = o.server_name;
  l.pad_bytes = o.pad;
  if (!o.server_ca.empty()) l.server_ca = read_text_file(o.server_ca, "tls");
  if (!o.client_cert.empty()) {
    l.certificate = read_text_file(o.client_cert, "tls");
    l.key = read_text_file(o.client_key, "tls");
  }
  if (!o.key_file.empty()) {
    l.api_key = first_line(o.key_file);
    const bool local = o.server.starts_with("127.") || o.server.starts_with("localhost:") ||
                       o.server.starts_with("[::1]");
    if (!o.tls && !local)
      throw UsageError("[usage] --server-key-file: a key wants TLS on its way, see --tls");
  }
  return l;
}

std::string random_bytes(size_t n) {
  std::string out(n, '\0');
  if (RAND_bytes(reinterpret_cast<uint8_t*>(out.data()), static_cast<int>(n)) != 1)
    fail(Code::kInternal, "[edge] expected random bytes, the system has none");
  return out;
}

// The drafting side: a model with its tokenizer, or n-grams with somebody's tokenizer.
struct Drafting {
  std::unique_ptr<ModelSession> session;
  std::unique_ptr<GgufFile> file;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Drafter> drafter;  // until the speculator takes it
  const Metadata& metadata() const {
    return session ? session->file().metadata() : file->metadata();
  }
};

Drafting load_drafting(Options& o, int n_ctx) {
  Drafting d;
  if (o.draft == kNgram) {
    d.file = std::make_unique<GgufFile>(GgufFile::open(o.tokenizer));
    d.drafter = make_ngram_drafter();
  } else {
    o.common.model = o.draft;
    SessionOptions s = session_options(o.common);
    if (s.n_ctx == 0) s.n_ctx = n_ctx;
    s.pack = "none";
    s.n_seqs = o.max_answers;
    s.max_logit_rows = ModelDrafterOptions().beam * s.n_seqs;
    d.session = load_session(o.common, plan_model(s));
    d.drafter = make_model_drafter(d.session->engine(), {});
  }
  d.tokenizer = Tokenizer::from_gguf(d.metadata());
  return d;
}

edge::EdgeLoopOptions loop_options(const Options& o, const edge::pb::Capabilities& caps,
                                   const edge::TokenizerIdentity& identity) {
  edge::EdgeLoopOptions l;
  edge::ProtocolLimits& limits = l.session.limits;
  limits.n_vocab = static_cast<int>(identity.id.vocab_size());
  limits.max_context = static_cast<int>(caps.max_context());
  limits.max_nodes = static_cast<int>(caps.max_nodes());
  limits.max_branches = static_cast<int>(caps.max_branches());
  l.session.patience_us = int64_t{o.patience_s} * 1'000'000;
  l.tokenizer = identity.id;
  l.tokenizer.clear_probes();
  l.max_guesses = o.max_guesses;
  l.max_depth = std::min<int>(l.max_depth, static_cast<int>(caps.max_depth()));
  l.max_generations = o.max_answers;
  l.random_bytes = random_bytes;
  return l;
}

std::shared_ptr<LoadedModel> served(const Options& o, const Drafting& d,
                                    const edge::pb::Capabilities& caps,
                                    CompletionService& service) {
  const auto model = std::make_shared<LoadedModel>();
  const edge::pb::ModelInfo& info = caps.models(0);
  if (d.session) model->facts = model_facts(*d.session, {info.name()});
  model->facts.name = o.http.names.empty() ? info.name() : o.http.names[0];
  if (o.http.names.size() > 1)
    model->facts.aliases.assign(o.http.names.begin() + 1, o.http.names.end());
  model->facts.digest = info.weights_digest();
  model->facts.max_queue = 0;
  model->facts.n_ctx_train = static_cast<int>(caps.max_context());
  model->tokenizer = d.tokenizer.get();
  model->chat = served_chat(d.metadata(), o.http.chat_format);
  model->service = &service;
  return model;
}

void report(const Options& o, const edge::pb::Capabilities& caps, int port) {
  if (o.common.json) {
    write_json({{"model", caps.models(0).name()},
                {"url", o.http.url(port)},
                {"server", o.server},
                {"draft", o.draft},
                {"max_model_len", caps.max_context()}});
    flush_out();
    return;
  }
  note(o.common.quiet,
       fmt::format("hob: serving {} of {} on {}, drafts by {}, context {}", caps.models(0).name(),
                   o.server, o.http.url(port), o.draft, caps.max_context()));
}

void run_edge(Options o) {
  check_options(o);
  const StopSignals signals;
  raise_file_limit();
  const std::unique_ptr<edge::Connector> connector = make_grpc_connector(link_options(o));
  edge::pb::CapabilitiesRequest question;
  question.set_max_minor(edge::kMinor);
  const edge::pb::Capabilities caps = connector->capabilities(question);
  if (caps.models_size() == 0)
    fail(Code::kDataLoss, "[edge] expected a model, {} names none", o.server);
  ServerState state;
  HttpServer http(o.http.config, o.http.port, http_limits(), o.http.tls, state);
  http.start();
  const ServerFile file = announce(o.http, http.port(), o.draft, o.common.quiet);
  Drafting drafting = load_drafting(o, static_cast<int>(caps.max_context()));
  const edge::TokenizerIdentity identity = edge::identify(
      *drafting.tokenizer, drafting.metadata().find_string("tokenizer.chat_template").value_or(""));
  edge::check_compatible(caps.models(0).tokenizer(), identity.id);
  Speculator speculator(std::move(drafting.drafter),
                        {.max_nodes = o.max_nodes, .row_share = kRowShare, .adaptive = !o.always});
  edge::EdgeService service(*connector, speculator, *drafting.tokenizer,
                            loop_options(o, caps, identity));
  const std::shared_ptr<LoadedModel> model = served(o, drafting, caps, service);
  struct StopFirst {  // before the service that its requests use
    ~StopFirst() { http.stop(); }
    HttpServer& http;
  } stop_first{http};
  state.set_model(model);
  report(o, caps, http.port());
  wait_for_the_end(o.common.quiet, state, service, http, signals, nullptr);
}

}  // namespace

Runner setup_edge(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("--server", o->server, "HOST:PORT of a `hob serve --edge-port PORT`")->required();
  app.add_option("--draft", o->draft, "a small model of the server's vocabulary, or: ngram")
      ->required();
  app.add_option("--tokenizer", o->tokenizer, "with --draft ngram: a GGUF with the vocabulary");
  app.add_flag("--tls", o->tls, "speak TLS with the server");
  app.add_option("--server-ca", o->server_ca, "PEM: whom to trust; default: the system's list");
  app.add_option("--server-name", o->server_name, "the name in the server's certificate");
  app.add_option("--client-cert", o->client_cert, "PEM: shows the server who we are");
  app.add_option("--client-key", o->client_key, "its private key, PEM");
  app.add_option("--server-key-file", o->key_file, "a file with the API key for the server");
  app.add_option("--draft-max", o->max_nodes, "most tokens of a draft")->check(CLI::Range(1, 64));
  app.add_flag("--draft-always", o->always, "send whole drafts, also where that is slower")
      ->group("");  // for measurements
  app.add_option("--guesses", o->max_guesses,
                 "likely ends of a round that are sent ahead of its verdict; 0 = none")
      ->check(CLI::Range(0, 16));
  app.add_option("--max-answers", o->max_answers, "answers that are written together")
      ->check(CLI::Range(1, 1024));
  app.add_option("--patience", o->patience_s, "seconds without the server before an answer fails")
      ->check(CLI::Range(1, 86400));
  app.add_option("--pad", o->pad, "bytes: frames grow to multiples, so that sizes tell less")
      ->check(CLI::Range(0, 4096));
  app.add_option("--memory", o->common.memory, "of the draft model");
  app.add_option("--threads", o->common.threads, "of the draft model; 0 = all cores");
  add_http_options(app, o->http);
  add_output_options(app, o->common);
  return [o] { run_edge(*o); };
}

}  // namespace hob::app
