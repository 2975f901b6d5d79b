// hob bench MODEL [-p N] [-n N] [-r R] [--batch B] [--depth N] [--route-trace CSV]
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <random>

#include "backend/compute_peaks.h"
#include "base/error.h"
#include "base/memory_info.h"
#include "bench_report.h"
#include "command.h"
#include "engine/machine_probe.h"
#include "engine/meter.h"
#include "options.h"
#include "route_replay.h"
#include "sampling/sampler.h"

namespace hob::app {
namespace {

struct Options {
  CommonOptions common;
  int n_prompt = 512, n_gen = 128, repeats = 5, batch = 1, depth = 0;
  std::string route_trace;
};

constexpr int kDefaultCtx = 4096;

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
  BenchRun prefill() {
    rewind();
    if (trace_) trace_->replay_prompt();
    for (int seq : seqs_) engine_.feed(seq, random_tokens(o_.n_prompt), 1);
    session_.decoder().reset_times();
    const Meter meter(engine_);
    run_all();
    return stop(meter, o_.n_prompt);
  }

  // n_tok steps of one token per sequence.
  BenchRun decode(int n_tok) {
    rewind();
    if (trace_) trace_->replay_decode(o_.depth);
    session_.decoder().reset_times();
    const Meter meter(engine_);
    for (int i = 0; i < n_tok; i++) {
      for (int seq : seqs_) engine_.feed(seq, random_tokens(1), 1);
      run_all();
    }
    return stop(meter, n_tok);
  }

  // Choosing one token with the default settings of `hob run`, median of some.
  double sampling_seconds() {
    rewind();
    if (trace_) trace_->replay_decode(o_.depth);
    std::vector<float> logits;
    engine_.feed(seqs_[0], random_tokens(1), 1);
    while (engine_.step(
        [&](int, int, std::span<const float> row) { logits.assign(row.begin(), row.end()); })) {
    }
    if (engine_.error(seqs_[0])) std::rethrow_exception(engine_.error(seqs_[0]));
    std::array<double, 9> seconds;
    for (size_t i = 0; i < seconds.size(); i++) {
      const auto start = std::chrono::steady_clock::now();
      sample(logits, {.seed = i}, {}, 0);
      seconds[i] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
    return seconds[seconds.size() / 2];
  }

 private:
  BenchRun stop(const Meter& meter, int n_tok_each) const {
    return {meter.stop(n_tok_each * o_.batch), session_.decoder().times(),
            session_.decoder().counts(),       session_.decoder().precision_counts(),
            session_.decoder().thresholds(),   session_.decoder().prefetch_governor().gain()};
  }
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

MachinePeaks measure_peaks(ModelPlan& plan) {
  MachinePeaks peaks;
  const int n_threads = plan.backend->n_threads();
  peaks.ram_bytes_per_s =
      measure_ram_bandwidth(n_threads, stream_pool_bytes(plan.plan.budget_bytes));
  const ComputePeaks compute = measure_compute_peaks(plan.backend->isa(), n_threads);
  peaks.dot_macs_per_s = compute.dot_macs_per_s;
  peaks.fma_macs_per_s = compute.fma_macs_per_s;
  if (!plan.plan.resident)
    peaks.disk_bytes_per_s = measure_disk_bandwidth(plan.layout.experts, plan.cache).bytes_per_s;
  reset_own_peak();  // the probe's memory is gone again
  return peaks;
}

// One user gets the context that every other command would plan for; many users get what the test
// needs, because their contexts multiply.
int bench_ctx(const Options& o) {
  if (o.common.ctx) return o.common.ctx;
  const int needed = o.depth + std::max({o.n_prompt, o.n_gen, 1});
  return o.batch > 1 ? needed : needed > kDefaultCtx ? needed : 0;
}

void check_ctx(const Options& o, int n_ctx) {
  const int needed = o.depth + std::max({o.n_prompt, o.n_gen, 1});
  if (needed > n_ctx)
    fail(Code::kInvalidArgument,
         "[context] expected --depth + tokens of at most {} (--ctx), got {}", n_ctx, needed);
}

void run_tests(const Options& o, ModelSession& session, TraceRouting* trace,
               const MachinePeaks& peaks) {
  const BenchReport report(session, peaks, o.common.json);
  report.begin();
  // A streaming run starts with a full cache: what is measured is the steady state.
  if (session.experts() && !session.experts()->resident()) session.experts()->preload({});
  Bench bench(o, session, trace);
  if (o.depth) bench.fill_depth();
  const auto test = [&](const char* name, int n_tok) {
    return BenchTest{.name = name, .n_tok = n_tok, .batch = o.batch, .depth = o.depth, .runs = {}};
  };
  const double sampling = bench.sampling_seconds() * o.batch;
  if (o.n_prompt > 0) {
    BenchTest prefill = test("prefill", o.n_prompt);
    prefill.sampling_seconds = sampling;
    for (int i = 0; i < o.repeats; i++) prefill.runs.push_back(bench.prefill());
    report.add(prefill);
  }
  if (o.n_gen > 0) {
    bench.decode(1);  // first-touch costs of the one-row path
    BenchTest decode = test("decode", o.n_gen);
    decode.sampling_seconds = sampling * o.n_gen;
    for (int i = 0; i < o.repeats; i++) decode.runs.push_back(bench.decode(o.n_gen));
    report.add(decode);
  }
}

void run(const Options& o) {
  SessionOptions options = session_options(o.common);
  options.n_seqs = o.batch;
  options.n_ctx = bench_ctx(o);
  RouteReplay replay(o.route_trace);
  ModelPlan plan = plan_model(options);
  check_ctx(o, plan.options.n_ctx);
  RouteOverride* routing = replay.fit(plan.layout.spec.moe);
  const MachinePeaks peaks = measure_peaks(plan);
  const std::unique_ptr<ModelSession> session = load_session(o.common, std::move(plan));
  if (routing) session->decoder().set_route_override(routing);
  run_tests(o, *session, replay.trace(), peaks);
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
  app.add_option("--route-trace", o->route_trace,
                 "replay recorded routing, a turn per sequence, or: uniform");
  return [o] { run(*o); };
}

}  // namespace hob::app
