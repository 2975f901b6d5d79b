// hob serve MODEL: an OpenAI-compatible server.
#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "draft_options.h"
#include "edge_port.h"
#include "engine/completion_engine.h"
#include "experts/faulty_reader.h"
#include "http_options.h"
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
// With --edge-port a step has room for one largest tree at least, whoever decodes beside it.
constexpr int kEdgeRows = 64;

struct Options {
  CommonOptions common;
  HttpOptions http;
  EdgePortOptions edge;
  CompletionEngineOptions engine;
  int kv_tokens = 0;
  std::string kv_reserve = "none";
  DraftOptions draft;
  std::string faults;  // of a test: see experts/faulty_reader.h
  double step_floor_ms = 0;
  std::string route_trace;  // of a bench: the answers mean nothing then
};

const std::map<std::string, KvReserve> kReserves = {{"none", KvReserve::kNone},
                                                    {"max", KvReserve::kMax},
                                                    {"oracle", KvReserve::kOracle},
                                                    {"oracle-buddy", KvReserve::kOracleBuddy}};

void check_options(Options& o) {
  check_http_options(o.http);
  o.engine.kv_reserve = kReserves.at(o.kv_reserve);
  if (o.draft.on() && o.engine.kv_reserve != KvReserve::kNone)
    throw UsageError("[usage] expected one of --draft and --kv-reserve, got both");
  if (!o.faults.empty()) parse_fault_plan(o.faults);
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
    if (o.edge.on())
      options.max_logit_rows = std::max(options.max_logit_rows, options.n_seqs + kEdgeRows);
    if (options.kv_tok == 0) options.kv_tok = default_kv_tokens(least, options.max_logit_rows);
    return plan_model(options);
  } catch (const Error& e) {
    if (e.code() != Code::kResourceExhausted) throw;
    throw Error(e.code(),
                fmt::format("{} (and {} more for serving)", e.what(), format_size(kServeBytes)));
  }
}

void report_load(const Options& o, const ModelSession& session, const LoadedModel& model, int port,
                 int edge_port) {
  const Plan& p = session.plan();
  const uint64_t headroom = p.budget_bytes > p.peak_bytes ? p.budget_bytes - p.peak_bytes : 0;
  if (o.common.json) {
    write_json({{"model", model.facts.name},
                {"url", o.http.url(port)},
                {"edge_port", edge_port},
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
                   o.http.url(port), o.engine.max_seqs, model.service->max_model_len(),
                   model.chat ? "" : "; no chat template (see --chat-format)"));
  if (edge_port > 0)
    note(o.common.quiet, fmt::format("hob: verifying for edges on port {}", edge_port));
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
  engine_options.draft_batching = draft_batching(o.edge);
  engine_options.step_floor_s = o.step_floor_ms * 1e-3;
  CompletionEngine engine(*session, *tokenizer, engine_options);
  EngineService service(engine);
  const auto model = std::make_shared<LoadedModel>();
  model->facts = model_facts(*session, o.http.names);
  model->facts.max_queue = o.engine.max_queue;
  model->tokenizer = tokenizer.get();
  model->chat = served_chat(metadata, o.http.chat_format);
  model->service = &service;
  model->load_s = static_cast<double>(now_ns() - start) * 1e-9;

  struct StopFirst {  // before the engine that its requests use
    ~StopFirst() { server.stop(); }
    HttpServer& server;
  } stop_first{server};
  EdgePort edge_port(o.edge, o.http, *session, *model, service, speculator != nullptr);
  state.set_model(model);
  report_load(o, *session, *model, server.port(), edge_port.port());
  wait_for_the_end(o.common.quiet, state, service, server, signals, [&] { edge_port.drain(); });
}

void serve(Options o) {
  check_options(o);
  served_chat({}, o.http.chat_format);  // bad usage before anything is loaded
  RouteReplay replay(o.route_trace);
  o.engine.memory.enabled = true;
  o.engine.memory.note = [quiet = o.common.quiet](const std::string& line) {
    note(quiet, "hob: " + line);
  };
  const StopSignals signals;
  raise_file_limit();
  ServerState state;
  HttpServer server(o.http.config, o.http.port, http_limits(), o.http.tls, state);
  server.start();
  const ServerFile file = announce(o.http, server.port(), o.common.model, o.common.quiet);
  serve_model(o, state, server, signals, replay);
}

}  // namespace

Runner setup_serve(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  add_http_options(app, o->http);
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
  add_edge_port_options(app, o->edge);
  app.add_option("--inject-faults", o->faults, "RATE:SEED: expert reads fail at random")
      ->group("");  // for tests: not in --help
  app.add_option("--step-floor", o->step_floor_ms, "ms that a step takes at least")
      ->check(number_in(0, 1e4))
      ->group("");  // for benches: a small model in the role of a large one
  app.add_option("--route-trace", o->route_trace, "replay recorded routing, or: uniform")
      ->group("");  // for benches
  return [o] { serve(*o); };
}

}  // namespace hob::app
