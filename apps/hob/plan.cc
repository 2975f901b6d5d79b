// hob plan MODEL [--seqs N]: what goes where, how fast it will be, and what would make it fit.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "base/size_parse.h"
#include "command.h"
#include "engine/speed_report.h"
#include "options.h"
#include "output.h"
#include "route_replay.h"

namespace hob::app {
namespace {

struct Options {
  CommonOptions common;
  int seqs = 1;
  std::string route_trace;
};

constexpr double kGB = 1e9;

std::string routing_name(const Options& o) {
  return o.route_trace.empty() ? "uniform" : o.route_trace;
}

void print_memory(const ModelPlan& m) {
  const Plan& p = m.plan;
  const auto line = [](const char* what, uint64_t bytes, const std::string& remark) {
    write_out(fmt::format("  {:<16} {:>10}  {}\n", what, format_size(bytes), remark));
  };
  write_out(fmt::format("{} ({}, {} layers), {} threads, {}\n",
                        m.layout.spec.name.empty() ? m.options.path : m.layout.spec.name,
                        m.layout.spec.arch, m.layout.spec.n_layers, m.backend->n_threads(),
                        m.backend->isa()));
  write_out(fmt::format("memory: budget {}{}\n", format_size(p.budget_bytes),
                        m.options.memory_bytes ? "" : " (auto)"));
  line("weights", p.weights_bytes, "dense part, always in memory");
  if (p.experts_bytes)
    line("expert cache", p.expert_cache_bytes,
         p.resident ? "all experts, nothing streams"
                    : fmt::format("of {}: {:.0f} %", format_size(p.experts_bytes),
                                  100.0 * static_cast<double>(p.expert_cache_bytes) /
                                      static_cast<double>(p.experts_bytes)));
  line("KV cache", p.kv_bytes,
       fmt::format("{} sequence(s) of {} tokens", m.options.n_seqs, m.options.n_ctx));
  line("scratch", p.scratch_bytes, fmt::format("{} rows per step", p.chunk));
  if (p.staging_bytes) line("read buffers", p.staging_bytes, "");
  line("process", p.base_process_bytes + p.page_table_bytes,
       "program, vocabulary, stacks, page tables");
  line("peak", p.peak_bytes, "");
  write_out(fmt::format("smallest --memory that works: {}\n", format_size(p.smallest_bytes)));
  if (!p.resident) {
    const uint64_t all = p.peak_bytes - p.expert_cache_bytes + p.experts_bytes;
    write_out(fmt::format("nothing would stream with --memory {}M\n",
                          all / (1 << 20) + 1 + all / (512 << 20)));
  }
}

void print_speed(const Options& o, const ModelPlan& m, const SpeedReport& r) {
  const SpeedInput& in = r.input;
  const SpeedEstimate& e = r.estimate;
  write_out(fmt::format("measured here: memory {:.1f} GB/s", in.ram_bytes_per_s / kGB));
  if (in.disk_bytes_per_s > 0)
    write_out(fmt::format(", disk {:.2f} GB/s{}", in.disk_bytes_per_s / kGB,
                          r.disk_direct ? "" : " (through the page cache)"));
  write_out(fmt::format("\nspeed, routing {}:\n", routing_name(o)));
  write_out(fmt::format(
      "  decode  {:8.2f} tok/s = 1 / (dense {:.2f} ms + max(experts {:.2f} ms, disk {:.2f} ms) + "
      "other {:.2f} ms)\n",
      e.decode_tok_s, e.t_dense * 1e3, e.t_experts * 1e3, e.t_disk * 1e3, e.t_other * 1e3));
  if (m.layout.spec.is_moe())
    write_out(
        fmt::format("          hit rate {:.1f} % (without prefetch), {} from disk per token\n",
                    e.hit_rate * 100, format_size(static_cast<uint64_t>(e.disk_bytes_per_tok))));
  write_out(fmt::format("  prefill {:8.1f} tok/s in chunks of {}\n", e.prefill_tok_s, in.chunk));
}

void print_json(const Options& o, const ModelPlan& m, const SpeedReport& r) {
  const Plan& p = m.plan;
  write_json({{"weights_bytes", p.weights_bytes},
              {"expert_cache_bytes", p.expert_cache_bytes},
              {"kv_bytes", p.kv_bytes},
              {"scratch_bytes", p.scratch_bytes},
              {"peak_bytes", p.peak_bytes},
              {"hit_rate", r.estimate.hit_rate},
              {"decode_tok_s", r.estimate.decode_tok_s},
              {"prefill_tok_s", r.estimate.prefill_tok_s},
              {"routing", routing_name(o)},
              {"budget_bytes", p.budget_bytes},
              {"experts_bytes", p.experts_bytes},
              {"staging_bytes", p.staging_bytes},
              {"process_bytes", p.base_process_bytes + p.page_table_bytes},
              {"smallest_bytes", p.smallest_bytes},
              {"resident", p.resident},
              {"chunk", p.chunk},
              {"ctx", m.options.n_ctx},
              {"disk_bytes_per_tok", r.estimate.disk_bytes_per_tok},
              {"ram_bytes_per_s", r.input.ram_bytes_per_s},
              {"disk_bytes_per_s", r.input.disk_bytes_per_s}});
}

void run(const Options& o) {
  SessionOptions options = session_options(o.common);
  options.n_seqs = o.seqs;
  ModelPlan plan = plan_model(options);
  RouteReplay replay(o.route_trace);
  const SpeedReport report = measure_and_predict(plan, replay.fit(plan.layout.spec.moe));
  if (o.common.json) return print_json(o, plan, report);
  print_memory(plan);
  print_speed(o, plan, report);
}

}  // namespace

Runner setup_plan(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("--seqs", o->seqs, "sequences at the same time")->check(CLI::Range(1, 1024));
  app.add_option("--route-trace", o->route_trace,
                 "predict under recorded routing instead of uniform");
  return [o] { run(*o); };
}

}  // namespace hob::app
