// hob bench MODEL [-p N] [-n N] [-r R] [--batch B] [--depth N] [--route-trace CSV]
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>

#include "base/error.h"
#include "base/memory_info.h"
#include "base/size_parse.h"
#include "command.h"
#include "engine/machine_probe.h"
#include "engine/meter.h"
#include "engine/route_trace.h"
#include "engine/uniform_routing.h"
#include "options.h"
#include "output.h"

namespace hob::app {
namespace {

struct Options {
  CommonOptions common;
  int n_prompt = 512, n_gen = 128, repeats = 5, batch = 1, depth = 0;
  std::string route_trace;
};

constexpr int kDefaultCtx = 4096;
// --route-trace uniform: even, independent routing, what `hob plan` assumes without a trace.
constexpr const char* kUniform = "uniform";

struct Bandwidth {
  double ram_bytes_per_s = 0, disk_bytes_per_s = 0;
};

// Runs the tests on sequences that all start at the same depth.
class Bench {
 public:
  Bench(const Options& o, ModelSession& session, TraceRouting* trace)
      : o_(o), session_(session), engine_(session.engine()), trace_(trace) {
    for (int i = 0; i < o.batch; i++) seqs_.push_back(engine_.open());
  }

  void fill_depth() {
    if (trace_) trace_->replay_prompt();
    for (int seq : seqs_) engine_.feed(seq, random_tokens(o_.depth), 0);
    run_all();
  }

  // Every sequence reads n_prompt tokens.
  Usage prefill() {
    rewind();
    if (trace_) trace_->replay_prompt();
    for (int seq : seqs_) engine_.feed(seq, random_tokens(o_.n_prompt), 1);
    const Meter meter(engine_);
    run_all();
    return meter.stop(o_.n_prompt * o_.batch);
  }

  // n_tok steps of one token per sequence.
  Usage decode(int n_tok) {
    rewind();
    if (trace_) trace_->replay_decode(o_.depth);
    const Meter meter(engine_);
    for (int i = 0; i < n_tok; i++) {
      for (int seq : seqs_) engine_.feed(seq, random_tokens(1), 1);
      run_all();
    }
    return meter.stop(n_tok * o_.batch);
  }

 private:
  std::vector<int32_t> random_tokens(int n) {
    std::vector<int32_t> tokens(static_cast<size_t>(n));
    for (int32_t& t : tokens)
      t = static_cast<int32_t>(rng_() % static_cast<uint64_t>(engine_.n_vocab()));
    return tokens;
  }
  void rewind() {
    for (int seq : seqs_) engine_.rewind(seq, o_.depth);
  }
  void run_all() {
    while (engine_.step({})) {
    }
    for (int seq : seqs_)
      if (engine_.error(seq)) std::rethrow_exception(engine_.error(seq));
  }

  const Options& o_;
  ModelSession& session_;
  Engine& engine_;
  TraceRouting* trace_;
  std::vector<int> seqs_;
  std::mt19937_64 rng_{20240229};  // the same ids in every run and on every machine
};

template <class Get>
double median_of(const std::vector<Usage>& runs, Get get) {
  std::vector<double> values;
  for (const Usage& u : runs) values.push_back(get(u));
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// Tokens per second if all bytes that this run moved had moved at the measured rates, memory and
// disk at once.
double bound_tok_s(const Usage& u, ModelSession& session, const Bandwidth& bandwidth,
                   double n_steps) {
  const ModelLayout& layout = session.layout();
  double ram_bytes = static_cast<double>(layout.dense_read_bytes) * n_steps;
  if (ExpertCache* experts = session.experts()) {
    size_t n_experts = 0;
    for (const ExpertLayer& l : layout.experts.layers)
      n_experts += static_cast<size_t>(l.n_experts);
    const double mean = static_cast<double>(experts->total_bytes()) /
                        static_cast<double>(std::max<size_t>(1, n_experts));
    ram_bytes += static_cast<double>(u.hits + u.misses) * mean;
  }
  double t = ram_bytes / bandwidth.ram_bytes_per_s;
  if (u.bytes_read > 0 && bandwidth.disk_bytes_per_s > 0)
    t = std::max(t, static_cast<double>(u.bytes_read) / bandwidth.disk_bytes_per_s);
  return t > 0 ? u.n_tok / t : 0;
}

struct TestResult {
  const char* name;
  int n_tok;
  double n_steps;
  std::vector<Usage> runs;
};

void print(const Options& o, const TestResult& r, ModelSession& session,
           const Bandwidth& bandwidth) {
  const auto median = [&](auto get) { return median_of(r.runs, get); };
  const double tok_s = median([](const Usage& u) { return u.tok_s(); });
  const double hit_rate = median([](const Usage& u) { return u.hit_rate(); });
  const double bytes_per_tok = median([](const Usage& u) { return u.bytes_per_tok(); });
  const double stall = median([](const Usage& u) { return u.stall_share(); });
  const double bound =
      median([&](const Usage& u) { return bound_tok_s(u, session, bandwidth, r.n_steps); });
  if (o.common.json)
    return write_json({{"test", r.name},
                       {"n_tok", r.n_tok},
                       {"batch", o.batch},
                       {"depth", o.depth},
                       {"tok_s", tok_s},
                       {"hit_rate", hit_rate},
                       {"bytes_per_tok", bytes_per_tok},
                       {"stall_share", stall},
                       {"bound_tok_s", bound},
                       {"peak_bytes", own_peak_bytes()}});
  write_out(
      fmt::format("{:<8} {:>6} {:>6} {:>6} {:>10.2f} {:>9.1f} {:>12} {:>7.1f} {:>10.1f} {:>10}\n",
                  r.name, r.n_tok, o.batch, o.depth, tok_s, hit_rate * 100,
                  format_size(static_cast<uint64_t>(bytes_per_tok)), stall * 100, bound,
                  format_size(own_peak_bytes())));
  flush_out();
}

Bandwidth measure_bandwidth(ModelPlan& plan) {
  Bandwidth b;
  b.ram_bytes_per_s =
      measure_ram_bandwidth(plan.backend->n_threads(), probe_pool_bytes(plan.plan.budget_bytes));
  if (!plan.plan.resident)
    b.disk_bytes_per_s = measure_disk_bandwidth(plan.layout.experts, plan.cache).bytes_per_s;
  reset_own_peak();  // the probe's memory is gone again
  return b;
}

// One user gets the context that every other command would plan for; many users get what the test
// needs, because their contexts multiply.
int bench_ctx(const Options& o) {
  if (o.common.ctx) return o.common.ctx;
  const int needed = o.depth + std::max({o.n_prompt, o.n_gen, 1});
  return o.batch > 1 ? needed : needed > kDefaultCtx ? needed : 0;
}

void check_ctx(const Options& o, int n_ctx) {
  const int needed = o.depth + std::max(o.n_prompt, o.n_gen);
  if (needed > n_ctx)
    fail(Code::kInvalidArgument,
         "[context] expected --depth + tokens of at most {} (--ctx), got {}", n_ctx, needed);
}

void run_tests(const Options& o, ModelSession& session, TraceRouting* trace,
               const Bandwidth& bandwidth) {
  if (!o.common.json)
    write_out(fmt::format("{:<8} {:>6} {:>6} {:>6} {:>10} {:>9} {:>12} {:>7} {:>10} {:>10}\n",
                          "test", "n_tok", "batch", "depth", "tok/s", "hit %", "disk/tok",
                          "stall %", "bound", "peak"));
  // A streaming run starts with a full cache: what is measured is the steady state.
  if (session.experts() && !session.experts()->resident()) session.experts()->preload({});
  Bench bench(o, session, trace);
  if (o.depth) bench.fill_depth();
  if (o.n_prompt > 0) {
    const double n_steps =
        std::max(1.0, static_cast<double>(o.n_prompt) * o.batch / session.plan().chunk);
    TestResult result{"prefill", o.n_prompt, n_steps, {}};
    for (int i = 0; i < o.repeats; i++) result.runs.push_back(bench.prefill());
    print(o, result, session, bandwidth);
  }
  if (o.n_gen > 0) {
    bench.decode(1);  // first-touch costs of the one-row path
    TestResult result{"decode", o.n_gen, static_cast<double>(o.n_gen), {}};
    for (int i = 0; i < o.repeats; i++) result.runs.push_back(bench.decode(o.n_gen));
    print(o, result, session, bandwidth);
  }
}

void run(const Options& o) {
  SessionOptions options = session_options(o.common);
  options.n_seqs = o.batch;
  options.n_ctx = bench_ctx(o);
  std::optional<RouteTrace> trace;
  if (!o.route_trace.empty() && o.route_trace != kUniform) trace = read_route_trace(o.route_trace);
  ModelPlan plan = plan_model(options);
  check_ctx(o, plan.options.n_ctx);
  const MoeSpec moe = plan.layout.spec.moe;
  if (trace) check_trace_fits(*trace, moe.n_experts);
  if (o.route_trace == kUniform && moe.n_experts == 0)
    fail(Code::kInvalidArgument, "[trace] expected a model with experts, this one is dense");
  const Bandwidth bandwidth = measure_bandwidth(plan);
  const std::unique_ptr<ModelSession> session = load_session(o.common, std::move(plan));
  std::optional<TraceRouting> replay;
  std::optional<UniformRouting> uniform;
  if (trace) session->decoder().set_route_override(&replay.emplace(*trace));
  if (o.route_trace == kUniform)
    session->decoder().set_route_override(&uniform.emplace(moe.n_experts, moe.top_k));
  run_tests(o, *session, replay ? &*replay : nullptr, bandwidth);
}

}  // namespace

Runner setup_bench(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("-p", o->n_prompt, "tokens of the prefill test; 0 = skip")
      ->check(CLI::Range(0, 1 << 24));
  app.add_option("-n", o->n_gen, "tokens of the decode test; 0 = skip")
      ->check(CLI::Range(0, 1 << 24));
  app.add_option("-r", o->repeats, "repeats; medians are printed")->check(CLI::Range(1, 1000));
  app.add_option("--batch", o->batch, "sequences at the same time")->check(CLI::Range(1, 1024));
  app.add_option("--depth", o->depth, "tokens already in the KV cache")
      ->check(CLI::Range(0, 1 << 24));
  app.add_option("--route-trace", o->route_trace, "replay recorded routing, or: uniform");
  return [o] { run(*o); };
}

}  // namespace hob::app
