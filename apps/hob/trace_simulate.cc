// hob trace replay TRACE and hob trace fit TRACE...
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/size_parse.h"
#include "engine/trace_fit.h"
#include "experts/policy_table.h"
#include "output.h"
#include "trace.h"
#include "trace_options.h"

namespace hob::app {
namespace {

constexpr const char* kBelady = "belady";

struct ReplayCommand {
  ReplayArguments replay;
  std::string policies = "all";
  double disk_gb_s = 2;
  double latency_us = 100;
};

std::vector<std::string> policy_list(const std::string& text) {
  std::vector<std::string> list;
  if (text == "all") {
    for (const PolicyRow& row : policy_table()) list.emplace_back(row.name);
    list.emplace_back(kBelady);
    return list;
  }
  for (const std::string& spec : split_policies(text)) {
    try {
      if (spec != kBelady) check_policy(spec);
    } catch (const Error& e) {
      throw UsageError(fmt::format("[usage] --policy: {} (or belady, all)", e.what()));
    }
    list.push_back(spec);
  }
  return list;
}

// All policies at one size, with what they are measured against.
struct SizeResult {
  SimBudget budget;
  SimCounts lru, belady;
  std::vector<SimCounts> counts;  // as the policies

  uint64_t bytes() const { return budget.high_bytes + budget.low_bytes; }
  // Of the bytes that Belady saves over LRU; nullopt where both read the same.
  std::optional<double> gap(const SimCounts& c) const {
    const auto lru_bytes = static_cast<double>(lru.bytes);
    const double all = lru_bytes - static_cast<double>(belady.bytes);
    if (all <= 0) return std::nullopt;
    return (lru_bytes - static_cast<double>(c.bytes)) / all;
  }
};

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

double rate(int64_t hits, int64_t loads) {
  return hits + loads ? static_cast<double>(hits) / static_cast<double>(hits + loads) : 1;
}

struct Shares {
  double low_rows, skipped_rows, low_mass, skipped_mass;
  explicit Shares(const SimCounts& c) {
    const auto rows = static_cast<double>(c.rows_high + c.rows_low + c.rows_skipped);
    const double mass = c.mass_high + c.mass_low + c.mass_skipped;
    low_rows = ratio(static_cast<double>(c.rows_low), rows);
    skipped_rows = ratio(static_cast<double>(c.rows_skipped), rows);
    low_mass = ratio(c.mass_low, mass);
    skipped_mass = ratio(c.mass_skipped, mass);
  }
};

void print_json(const Replay& r, const SizeResult& size, const std::string& policy,
                const SimCounts& c) {
  const auto n_tok = static_cast<double>(r.n_decode_tok);
  const Shares shares(c);
  nlohmann::ordered_json object = {
      {"policy", policy},
      {"cache_bytes", size.bytes()},
      {"cache_share",
       ratio(static_cast<double>(size.bytes()), static_cast<double>(r.shape.total_bytes()))},
      {"cache_tokens",
       ratio(static_cast<double>(size.bytes()), static_cast<double>(r.bytes_per_tok))},
      {"hit_rate", c.hit_rate()},
      {"hit_rate_high", rate(c.hits_high, c.loads_high)},
      {"hit_rate_low", rate(c.hits_low, c.loads_low)},
      {"bytes_per_tok", static_cast<double>(c.bytes) / n_tok},
      {"stall_ms_per_tok", c.stall_s * 1e3 / n_tok},
      {"penalty_per_tok", c.penalty(r.shape.low_ratio) / n_tok},
      {"low_share", shares.low_rows},
      {"low_mass", shares.low_mass},
      {"skipped_share", shares.skipped_rows},
      {"skipped_mass", shares.skipped_mass},
      {"t1", r.thresholds.t1},
      {"t2", r.thresholds.t2}};
  const std::optional<double> gap = size.gap(c);
  object["gap_share"] = gap ? nlohmann::ordered_json(*gap) : nlohmann::ordered_json();
  write_json(object);
}

void print_heading(const ReplayCommand& o, const Replay& r) {
  const SimShape& s = r.shape;
  write_out(fmt::format("{} decode tokens, {} layers of {} experts, {} in all, {} per token\n",
                        r.n_decode_tok, s.n_layers, s.n_experts, format_size(s.total_bytes()),
                        format_size(r.bytes_per_tok)));
  if (o.replay.precision != "exact")
    write_out(
        fmt::format("{}: high up to {:.3f}, low up to {:.3f}; a low copy has {:.2f} of the "
                    "bytes\n",
                    o.replay.precision, r.thresholds.t1, r.thresholds.t2, s.low_ratio));
  write_out(fmt::format("stall: {:g} GB/s, {:g} us per layer with a miss, nothing overlapped\n",
                        o.disk_gb_s, o.latency_us));
}

void print_size(const ReplayCommand& o, const Replay& r, const SizeResult& size,
                const std::vector<std::string>& policies) {
  const auto bytes = static_cast<double>(size.bytes());
  const bool mixed = o.replay.precision != "exact";
  write_out(fmt::format(
      "\ncache {} = {:.1f} % of all experts, {:.2f} x the experts of one token{}\n",
      format_size(size.bytes()), 100 * ratio(bytes, static_cast<double>(r.shape.total_bytes())),
      ratio(bytes, static_cast<double>(r.bytes_per_tok)),
      size.bytes() < r.bytes_per_tok
          ? (mixed ? " (less than one)" : " (less than one: lru hits nothing)")
          : ""));
  write_out(fmt::format("  {:<26} {:>6} {:>10} {:>9} {:>6}{}\n", "policy", "hit %", "MiB/token",
                        "stall ms", "gap %",
                        mixed ? "  high %   low %  served low % (mass)  skipped % (mass)" : ""));
  const auto n_tok = static_cast<double>(r.n_decode_tok);
  for (size_t i = 0; i < policies.size(); i++) {
    const SimCounts& c = size.counts[i];
    const std::optional<double> gap = size.gap(c);
    std::string line =
        fmt::format("  {:<26} {:>6.1f} {:>10.1f} {:>9.1f} {:>6}", policies[i], 100 * c.hit_rate(),
                    static_cast<double>(c.bytes) / n_tok / 0x1p20, c.stall_s * 1e3 / n_tok,
                    gap ? fmt::format("{:.0f}", 100 * *gap) : "-");
    if (mixed) {
      const Shares s(c);
      line += fmt::format("  {:>6.1f}  {:>6.1f}  {:>10.1f} ({:>5.1f})  {:>9.1f} ({:>5.1f})",
                          100 * rate(c.hits_high, c.loads_high),
                          100 * rate(c.hits_low, c.loads_low), 100 * s.low_rows, 100 * s.low_mass,
                          100 * s.skipped_rows, 100 * s.skipped_mass);
    }
    write_out(line + "\n");
  }
}

void run_replay(const ReplayCommand& o) {
  const std::vector<std::string> policies = policy_list(o.policies);
  const Replay replay = read_replays(o.replay).front();
  const std::vector<SimBudget> sizes = budgets(o.replay, replay);
  const Disk disk{.bytes_per_s = o.disk_gb_s * 1e9, .latency_s = o.latency_us * 1e-6};
  if (!o.replay.json) print_heading(o, replay);
  ProgressBar bar(o.replay.quiet);
  uint64_t n_done = 0;
  const uint64_t n_runs = sizes.size() * (policies.size() + 2);
  for (const SimBudget& budget : sizes) {
    SizeResult size{.budget = budget, .lru = {}, .belady = {}, .counts = {}};
    const auto run = [&](const std::string& policy) {
      bar.update("simulating", n_done++, n_runs);
      return simulate(replay, {.policy = policy, .budget = budget, .disk = disk});
    };
    size.lru = run("lru");
    size.belady = run(kBelady);
    for (const std::string& policy : policies) size.counts.push_back(run(policy));
    bar.clear();
    if (!o.replay.json) {
      print_size(o, replay, size, policies);
      continue;
    }
    for (size_t i = 0; i < policies.size(); i++)
      print_json(replay, size, policies[i], size.counts[i]);
  }
}

struct FitArguments {
  ReplayArguments replay;
  int n_steps = 10;
  int n_rows = 10;
};

void run_fit(const FitArguments& a) {
  std::vector<FitCase> cases;
  for (Replay& replay : read_replays(a.replay)) {
    std::vector<SimBudget> sizes = budgets(a.replay, replay);
    cases.push_back({std::move(replay), std::move(sizes)});
  }
  ProgressBar bar(a.replay.quiet);
  const std::vector<FitRow> rows = fit_hobbit(
      cases, a.n_steps, [&](size_t done, size_t total) { bar.update("fitting", done, total); });
  bar.clear();
  if (a.replay.json) {
    for (const FitRow& row : rows)
      write_json({{"policy", row.policy()}, {"penalty_over_lru", row.penalty}});
    return;
  }
  write_out(
      fmt::format("{}\n\n  penalty/lru  weights (lru, lfu, lhu, fld)\n", rows.front().policy()));
  const auto line = [](const FitRow& row, const char* remark) {
    write_out(fmt::format("  {:>11.4f}  {:.2f} {:.2f} {:.2f} {:.2f}{}\n", row.penalty,
                          row.weights[0], row.weights[1], row.weights[2], row.weights[3], remark));
  };
  for (size_t i = 0; i < std::min(rows.size(), static_cast<size_t>(a.n_rows)); i++)
    line(rows[i], "");
  if (rows.size() > static_cast<size_t>(a.n_rows)) line(rows.back(), "  (the worst)");
}

}  // namespace

Runner setup_trace_replay(CLI::App& app) {
  auto o = std::make_shared<ReplayCommand>();
  add_replay_options(app, o->replay)->expected(1);
  app.add_option("--policy", o->policies, "names, comma separated, belady among them; or all");
  app.add_option("--disk", o->disk_gb_s, "read bandwidth in GB/s")->check(number_in(1e-6, 1e6));
  app.add_option("--latency", o->latency_us, "microseconds per layer with a miss")
      ->check(number_in(0.0, 1e9));
  return [o] { run_replay(*o); };
}

Runner setup_trace_fit(CLI::App& app) {
  auto a = std::make_shared<FitArguments>();
  a->replay.precision = "mixed+skip";
  a->replay.cache = "10%,20%";
  add_replay_options(app, a->replay)->expected(1, 1024);
  app.add_option("--steps", a->n_steps, "grid: multiples of 1/N")->check(CLI::Range(1, 50));
  app.add_option("--rows", a->n_rows, "lines of the table")->check(CLI::Range(1, 100000));
  return [a] { run_fit(*a); };
}

}  // namespace hob::app
