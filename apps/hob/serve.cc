// hob serve MODEL: an OpenAI-compatible server.
#include <fmt/format.h>
#include <sys/resource.h>

#include <map>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "draft_options.h"
#include "engine/completion_engine.h"
#include "experts/faulty_reader.h"
#include "options.h"
#include "output.h"
#include "route_replay.h"
#include "serve/engine_service.h"
#include "serve/http_server.h"
#include "serve_model.h"
#include "server_file.h"
#include "stop_signals.h"

namespace hob::app {
namespace {

// Of --memory for connections, bodies and replies; see HttpLimits.
constexpr uint64_t kServeBytes = 32 << 20;

struct Options {
  CommonOptions common;
  ServeConfig config;
  TlsFiles tls;
  CompletionEngineOptions engine;
  int port = 8080;
  int kv_tokens = 0;
  std::string kv_reserve = "none";
  std::vector<std::string> names;
  std::string api_key_file, body_limit, chat_format;
  DraftOptions draft;
  std::string faults;       // of a test: see experts/faulty_reader.h
  std::string route_trace;  // of a bench: the answers mean nothing then
};

const std::map<std::string, KvReserve> kReserves = {{"none", KvReserve::kNone},
                                                    {"max", KvReserve::kMax},
                                                    {"oracle", KvReserve::kOracle},
                                                    {"oracle-buddy", KvReserve::kOracleBuddy}};

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

void check_options(Options& o) {
  if (o.tls.certificate.empty() != o.tls.key.empty())
    throw UsageError("[usage] expected --tls-cert and --tls-key together, got one of them");
  if (!o.api_key_file.empty()) o.config.keys = ApiKeys::from_file(o.api_key_file);
  o.engine.kv_reserve = kReserves.at(o.kv_reserve);
  if (o.draft.on() && o.engine.kv_reserve != KvReserve::kNone)
    throw UsageError("[usage] expected one of --draft and --kv-reserve, got both");
  if (!o.body_limit.empty()) {
    o.config.max_body_bytes = parse_size(o.body_limit);
    if (o.config.max_body_bytes > HttpLimits().max_bodies_bytes)
      throw UsageError(fmt::format("[usage] --body-limit: expected at most {}, got {}",
                                   format_size(HttpLimits().max_bodies_bytes), o.body_limit));
  }
  if (!o.faults.empty()) parse_fault_plan(o.faults);
  for (const std::string& name : o.names)
    if (name.empty()) throw UsageError("[usage] --alias: expected a name, got an empty one");
}

// Many slow clients are many open files.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 1 << 16);
  setrlimit(RLIMIT_NOFILE, &limit);
}

HttpLimits http_limits() {
  constexpr rlim_t kOwnFiles = 64;  // model shards, rings, logs
  HttpLimits limits;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > 2 * kOwnFiles)
    limits.max_connections = static_cast<int>(
        std::min<rlim_t>(static_cast<rlim_t>(limits.max_connections), files.rlim_cur - kOwnFiles));
  return limits;
}

SessionOptions serve_session_options(const Options& o) {
  SessionOptions s = session_options(o.common);
  s.n_seqs = o.engine.max_seqs;
  s.kv_tok = o.kv_tokens;
  if (s.memory_bytes) {
    if (*s.memory_bytes <= kServeBytes)
      throw UsageError(fmt::format("[usage] --memory: expected more than the {} that serving needs",
                                   format_size(kServeBytes)));
    *s.memory_bytes -= kServeBytes;
  }
  return s;
}

uint64_t logit_row_bytes(const ModelPlan& plan) {
  return static_cast<uint64_t>(plan.layout.spec.n_vocab) * sizeof(float);
}

// Prompt logprobs want the logits of every row, not of one per sequence: a step computes at most
// this many of them. A hundredth of the memory, because few requests ask for them; and no model
// streams for their sake. `least`: a plan with hardly any KV.
int default_logit_rows(const ModelPlan& least) {
  constexpr uint64_t kMost = 256;
  const Plan& p = least.plan;
  uint64_t spare = p.budget_bytes / 100;
  if (p.resident) spare = std::min(spare, (p.budget_bytes - p.peak_bytes) / 4);
  const auto n_seqs = static_cast<uint64_t>(least.options.n_seqs);
  const uint64_t most = std::max(n_seqs, kMost);
  return static_cast<int>(std::min(most, n_seqs + spare / logit_row_bytes(least)));
}

// KV for everybody at full length is rarely needed and often larger than the model: by default a
// quarter of the memory at most, an eighth where experts want every byte of it; but one whole
// context, and never more than everybody's.
int default_kv_tokens(const ModelPlan& least, int n_logit_rows) {
  const Plan& p = least.plan;
  const uint64_t for_logits =
      static_cast<uint64_t>(n_logit_rows - least.options.n_seqs) * logit_row_bytes(least);
  const uint64_t share =
      p.resident ? std::min(p.budget_bytes / 4, p.budget_bytes - p.peak_bytes - for_logits)
                 : p.budget_bytes / 8;
  const uint64_t bytes = least.layout.kv(least.options.kv).bytes_per_token();
  const auto n_ctx = static_cast<uint64_t>(least.options.n_ctx);
  return static_cast<int>(std::clamp(share / std::max<uint64_t>(1, bytes), n_ctx,
                                     n_ctx * static_cast<uint64_t>(least.options.n_seqs)));
}

ModelPlan plan_to_serve(const Options& o, SessionOptions options) {
  try {
    SessionOptions least_options = options;
    least_options.kv_tok = kKvBlock;  // hardly any KV
    const ModelPlan least = plan_model(least_options);
    options.max_logit_rows = default_logit_rows(least);
    reserve_rows(o.draft, options);
    if (options.kv_tok == 0) options.kv_tok = default_kv_tokens(least, options.max_logit_rows);
    return plan_model(options);
  } catch (const Error& e) {
    if (e.code() != Code::kResourceExhausted) throw;
    throw Error(e.code(),
                fmt::format("{} (and {} more for serving)", e.what(), format_size(kServeBytes)));
  }
}

std::string address(const Options& o, int port) {
  const bool v6 = o.config.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", o.tls.certificate.empty() ? "http" : "https", v6 ? "[" : "",
                     o.config.host, v6 ? "]" : "", port);
}

void report_load(const Options& o, const ModelSession& session, const LoadedModel& model,
                 int port) {
  const Plan& p = session.plan();
  const uint64_t headroom = p.budget_bytes > p.peak_bytes ? p.budget_bytes - p.peak_bytes : 0;
  if (o.common.json) {
    write_json({{"model", model.facts.name},
                {"url", address(o, port)},
                {"load_s", model.load_s},
                {"weights_bytes", p.weights_bytes},
                {"expert_cache_bytes", p.expert_cache_bytes},
                {"experts_bytes", p.experts_bytes},
                {"kv_bytes", p.kv_bytes},
                {"scratch_bytes", p.scratch_bytes},
                {"peak_bytes", p.peak_bytes},
                {"headroom_bytes", headroom},
                {"max_model_len", model.service->max_model_len()},
                {"max_seqs", o.engine.max_seqs},
                {"chat", model.chat.has_value()}});
    flush_out();
    return;
  }
  note(o.common.quiet,
       fmt::format("hob: loaded in {:.1f} s: weights {}, experts {} of {}, KV {}, scratch {}, "
                   "headroom {}",
                   model.load_s, format_size(p.weights_bytes), format_size(p.expert_cache_bytes),
                   format_size(p.experts_bytes), format_size(p.kv_bytes),
                   format_size(p.scratch_bytes), format_size(headroom)));
  note(o.common.quiet,
       fmt::format("hob: serving {} on {}: {} at once, context {}{}", model.facts.name,
                   address(o, port), o.engine.max_seqs, model.service->max_model_len(),
                   model.chat ? "" : "; no chat template (see --chat-format)"));
}

std::unique_ptr<ModelSession> load_to_serve(const Options& o, const SessionOptions& options,
                                            ServerState& state, const StopSignals& signals) {
  state.set_progress("planning", 0);
  ModelPlan plan = plan_to_serve(o, options);
  if (!o.faults.empty())
    plan.cache.wrap_reader = [faults = parse_fault_plan(o.faults)](auto reader) {
      return make_faulty_reader(std::move(reader), faults);
    };
  note_kl(o.common, plan);
  ProgressBar bar(o.common.quiet);
  return ModelSession::load(
      std::move(plan), [&](std::string_view what, uint64_t done, uint64_t total) {
        if (signals.come(std::chrono::milliseconds(0)))
          fail(Code::kCancelled, "[serve] expected to load the model, was stopped");
        bar.update(what, done, total);
        state.set_progress(std::string(what),
                           total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total));
      });
}

// Until a signal comes; then until the last request has its answer, or a second signal comes.
void wait_for_the_end(const Options& o, ServerState& state, CompletionEngine& engine,
                      const HttpServer& server, const StopSignals& signals) {
  constexpr std::chrono::milliseconds kLong{60'000}, kShort{20};
  while (!signals.come(kLong)) {
  }
  state.set_draining();
  engine.drain();
  if (!engine.idle())
    note(o.common.quiet, "hob: finishing what runs, refusing what is new; a second signal stops");
  while (!engine.idle() || server.n_active() > 0) {
    if (!signals.come(kShort)) continue;
    fail(Code::kCancelled, "[serve] expected to finish {} requests, was stopped",
         server.n_active());
  }
}

void serve_model(const Options& o, ServerState& state, HttpServer& server,
                 const StopSignals& signals, RouteReplay& replay) {
  const int64_t start = now_ns();
  SessionOptions options = serve_session_options(o);
  const LocalDraft draft(o.draft, o.common, options);
  const std::unique_ptr<ModelSession> session = load_to_serve(o, options, state, signals);
  if (RouteOverride* routing = replay.fit(session->layout().spec.moe))
    session->decoder().set_route_override(routing);
  const Metadata& metadata = session->file().metadata();
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_gguf(metadata);
  const std::unique_ptr<Speculator> speculator = draft.speculator(*session);
  CompletionEngineOptions engine_options = o.engine;
  engine_options.speculator = speculator.get();
  CompletionEngine engine(*session, *tokenizer, engine_options);
  EngineService service(engine);
  const auto model = std::make_shared<LoadedModel>();
  model->facts = model_facts(*session, o.names);
  model->facts.max_queue = o.engine.max_queue;
  model->tokenizer = tokenizer.get();
  model->chat = served_chat(metadata, o.chat_format);
  model->service = &service;
  model->load_s = static_cast<double>(now_ns() - start) * 1e-9;

  struct StopFirst {  // before the engine that its requests use
    ~StopFirst() { server.stop(); }
    HttpServer& server;
  } stop_first{server};
  state.set_model(model);
  report_load(o, *session, *model, server.port());
  wait_for_the_end(o, state, engine, server, signals);
}

void serve(Options o) {
  check_options(o);
  served_chat({}, o.chat_format);  // bad usage before anything is loaded
  RouteReplay replay(o.route_trace);
  o.engine.memory.enabled = true;
  o.engine.memory.note = [quiet = o.common.quiet](const std::string& line) {
    note(quiet, "hob: " + line);
  };
  const StopSignals signals;
  raise_file_limit();
  ServerState state;
  HttpServer server(o.config, o.port, http_limits(), o.tls, state);
  server.start();
  const ServerFile file({.host = o.config.host,
                         .port = server.port(),
                         .tls = !o.tls.certificate.empty(),
                         .name = o.names.empty() ? model_name_of(o.common.model) : o.names[0],
                         .model = o.common.model});
  if (!is_loopback(o.config.host) && o.config.keys.empty())
    note(o.common.quiet, fmt::format("hob: warning: everybody who reaches {} may use this server; "
                                     "--api-key-file asks for a key",
                                     o.config.host));
  note(o.common.quiet, fmt::format("hob: listening on {}, loading", address(o, server.port())));
  serve_model(o, state, server, signals, replay);
}

}  // namespace

Runner setup_serve(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("--host", o->config.host, "address to listen on");
  app.add_option("--port", o->port, "0 = any free one")->check(CLI::Range(0, 65535));
  app.add_option("--max-seqs", o->engine.max_seqs, "answers that are written together")
      ->check(CLI::Range(1, 1024));
  app.add_option("--max-queue", o->engine.max_queue, "requests that may wait")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--kv-tokens", o->kv_tokens,
                 "tokens that the KV cache holds for all; default: what an eighth (if experts are "
                 "streamed) to a quarter of the memory holds, at least --ctx, at most --ctx for "
                 "each of --max-seqs")
      ->check(CLI::Range(16, 1 << 30));
  app.add_option("--kv-reserve", o->kv_reserve,
                 "none: paged. max, oracle, oracle-buddy: for comparison, a request starts when "
                 "its whole length has room, as without paging")
      ->check(CLI::IsMember(kReserves));
  add_draft_options(app, o->draft);
  app.add_option("--api-key-file", o->api_key_file, "keys that clients need, one per line");
  app.add_option("--alias", o->names, "what clients call the model; default: the file's name");
  app.add_option("--chat-format", o->chat_format,
                 "chatml, llama3, ...: for a file without a chat template that hob knows");
  app.add_option("--allow-host", o->config.allow_hosts,
                 "further names of this server in Host headers; * = any");
  app.add_option("--cors", o->config.cors_origin,
                 "origin whose pages may use this server, as https://example.org; * = any");
  app.add_option("--tls-cert", o->tls.certificate, "certificate chain, PEM");
  app.add_option("--tls-key", o->tls.key, "its private key, PEM");
  app.add_option("--body-limit", o->body_limit, "largest request body; default 8M");
  app.add_option("--request-timeout", o->config.request_timeout_s,
                 "seconds after which a request ends with an error; default: none")
      ->check(CLI::Range(1, 86400));
  app.add_option("--inject-faults", o->faults, "RATE:SEED: expert reads fail at random")
      ->group("");  // for tests: not in --help
  app.add_option("--route-trace", o->route_trace, "replay recorded routing, or: uniform")
      ->group("");  // for benches
  return [o] { serve(*o); };
}

}  // namespace hob::app
