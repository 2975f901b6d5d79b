// hob edge: drafts here, has another machine verify, and serves the answers as `hob serve` does.
#include <fmt/format.h>
#include <openssl/rand.h>

#include <chrono>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "command.h"
#include "draft_options.h"
#include "edge/compatibility.h"
#include "edge/edge_service.h"
#include "edge_options.h"
#include "hf/open_model.h"
#include "output.h"
#include "serve_model.h"
#include "speculative/model_drafter.h"

namespace hob::app {
namespace {

// What a node adds to a round, of which the way is most, until that has been measured.
constexpr double kRowShare = 0.02;

std::string random_bytes(size_t n) {
  std::string out(n, '\0');
  if (RAND_bytes(reinterpret_cast<uint8_t*>(out.data()), static_cast<int>(n)) != 1)
    fail(Code::kInternal, "[edge] expected random bytes, the system has none");
  return out;
}

// The drafting side: a model with its tokenizer, or n-grams with somebody's tokenizer.
struct Drafting {
  std::unique_ptr<ModelSession> session;
  std::unique_ptr<ModelFile> file;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Drafter> drafter;  // until the speculator takes it
  const Metadata& metadata() const {
    return session ? session->file().metadata() : file->metadata();
  }
};

// n_ctx: 0 = the draft model's own.
Drafting load_drafting(EdgeOptions& o, int n_ctx) {
  Drafting d;
  const DraftSource source(o.draft);
  if (source.model.empty()) {
    d.file = std::make_unique<ModelFile>(open_model_file(o.tokenizer));
  } else {
    o.common.model = source.model;
    SessionOptions s = session_options(o.common);
    if (s.n_ctx == 0) s.n_ctx = n_ctx;
    s.pack = "none";
    s.n_seqs = o.max_answers;
    s.max_logit_rows = ModelDrafterOptions().beam * s.n_seqs;
    d.session = load_session(o.common, plan_model(s));
  }
  d.drafter = make_drafter(source, d.session.get(), o.pass_floor_ms);
  d.tokenizer = Tokenizer::from_gguf(d.metadata());
  return d;
}

// Its answer, as soon as it gives one; none, if the draft model can begin without. Throws when it
// refuses us, or does not answer for as long as we have patience.
std::optional<edge::pb::Capabilities> ask_server(edge::Connector& connector, const EdgeOptions& o,
                                                 const StopSignals& signals, bool& stopped) {
  constexpr std::chrono::milliseconds kPause{1'000};
  edge::pb::CapabilitiesRequest question;
  question.set_max_minor(edge::kMinor);
  const int64_t until_ns = now_ns() + int64_t{o.patience_s} * 1'000'000'000;
  for (int n = 0; !stopped; n++) {
    try {
      const edge::pb::Capabilities caps = connector.capabilities(question);
      if (caps.models_size() == 0)
        fail(Code::kDataLoss, "[edge] expected a model, {} names none", o.server);
      return caps;
    } catch (const Error& e) {
      if (e.code() != Code::kIo || (!o.writes_alone() && now_ns() >= until_ns)) throw;
      if (n == 0)
        note(o.common.quiet, fmt::format("hob: {}; {}", e.what(),
                                         o.writes_alone() ? "the draft model begins alone"
                                                          : "waiting for it, Ctrl-C ends"));
    }
    if (o.writes_alone()) return std::nullopt;
    stopped = signals.come(kPause);
  }
  return std::nullopt;
}

// What can be said of a server that has not answered yet. Its first answer to an Open brings its
// own limits.
edge::pb::Capabilities assumed(const Drafting& d, const edge::pb::TokenizerId& identity) {
  const edge::ProtocolLimits limits;
  edge::pb::Capabilities caps;
  edge::pb::ModelInfo& model = *caps.add_models();
  model.set_name(model_facts(*d.session, {}).name);
  *model.mutable_tokenizer() = identity;
  caps.set_max_context(static_cast<uint32_t>(d.session->engine().limits().n_ctx));
  caps.set_max_nodes(static_cast<uint32_t>(limits.max_nodes));
  caps.set_max_depth(static_cast<uint32_t>(limits.max_nodes));
  caps.set_max_branches(static_cast<uint32_t>(limits.max_branches));
  return caps;
}

edge::EdgeLoopOptions loop_options(const EdgeOptions& o, const edge::pb::Capabilities& caps,
                                   const edge::pb::TokenizerId& identity) {
  edge::EdgeLoopOptions l;
  edge::ProtocolLimits& limits = l.session.limits;
  limits.n_vocab = static_cast<int>(identity.vocab_size());
  limits.max_context = static_cast<int>(caps.max_context());
  limits.max_nodes = static_cast<int>(caps.max_nodes());
  limits.max_branches = static_cast<int>(caps.max_branches());
  l.session.patience_us = int64_t{o.patience_s} * 1'000'000;
  l.tokenizer = identity;
  l.tokenizer.clear_probes();
  l.max_guesses = o.max_guesses;
  l.mode = edge_mode(o);
  l.server_drafts = (caps.feature_bits() & edge::kServerDrafts) != 0;
  l.writes_alone = o.writes_alone();
  l.max_depth = std::min<int>(l.max_depth, static_cast<int>(caps.max_depth()));
  l.max_generations = o.max_answers;
  l.random_bytes = random_bytes;
  return l;
}

std::shared_ptr<LoadedModel> served(const EdgeOptions& o, const Drafting& d,
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

void report(const EdgeOptions& o, const edge::pb::Capabilities& caps, int port) {
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

void run_edge(EdgeOptions o) {
  check_edge_options(o);
  const StopSignals signals;
  raise_file_limit();
  const std::unique_ptr<edge::Connector> connector = make_grpc_connector(link_options(o));
  ServerState state;
  state.set_progress("waiting for " + o.server, 0);
  HttpServer http(o.http.config, o.http.port, http_limits(), o.http.tls, state);
  http.start();
  const ServerFile file = announce(o.http, http.port(), o.draft, o.common.quiet);
  bool stopped = false;
  std::optional<edge::pb::Capabilities> caps = ask_server(*connector, o, signals, stopped);
  if (stopped) return;
  Drafting drafting = load_drafting(o, caps ? static_cast<int>(caps->max_context()) : 0);
  const edge::pb::TokenizerId identity = edge::identify(
      *drafting.tokenizer, drafting.metadata().find_string("tokenizer.chat_template").value_or(""));
  if (!caps) caps = assumed(drafting, identity);
  edge::check_compatible(caps->models(0).tokenizer(), identity);
  Speculator speculator(std::move(drafting.drafter),
                        {.max_nodes = o.max_nodes, .row_share = kRowShare, .adaptive = !o.always});
  edge::EdgeService service(*connector, speculator, *drafting.tokenizer,
                            loop_options(o, *caps, identity));
  const std::shared_ptr<LoadedModel> model = served(o, drafting, *caps, service);
  struct StopFirst {  // before the service that its requests use
    ~StopFirst() { http.stop(); }
    HttpServer& http;
  } stop_first{http};
  state.set_model(model);
  report(o, *caps, http.port());
  wait_for_the_end(o.common.quiet, state, service, http, signals, nullptr);
}

}  // namespace

Runner setup_edge(CLI::App& app) {
  auto o = std::make_shared<EdgeOptions>();
  add_edge_options(app, *o);
  return [o] { run_edge(*o); };
}

}  // namespace hob::app
