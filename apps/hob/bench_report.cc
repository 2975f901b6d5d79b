#include "bench_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/memory_info.h"
#include "base/size_parse.h"
#include "output.h"

namespace hob::app {
namespace {

template <class Get>
double median_of(const std::vector<BenchRun>& runs, Get get) {
  std::vector<double> values;
  for (const BenchRun& r : runs) values.push_back(get(r));
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// The run whose stages are shown: one of medium speed, so that its parts belong together.
const BenchRun& middle_run(const std::vector<BenchRun>& runs) {
  std::vector<const BenchRun*> sorted;
  for (const BenchRun& r : runs) sorted.push_back(&r);
  std::sort(sorted.begin(), sorted.end(), [](const BenchRun* a, const BenchRun* b) {
    return a->usage.seconds < b->usage.seconds;
  });
  return *sorted[sorted.size() / 2];
}

constexpr double kGiga = 1e9;
double gops(double macs_per_s) { return 2 * macs_per_s / kGiga; }

// Reads overlap the products, so the disk's rate is taken over the whole run.
void show_disk(const BenchRun& run, const MachinePeaks& peaks, Roofline& r) {
  StageRate& wait = r.stages[static_cast<size_t>(Stage::kDiskWait)];
  if (run.usage.seconds <= 0 || peaks.disk_bytes_per_s <= 0) return;
  wait.bytes_per_s = static_cast<double>(run.usage.bytes_read) / run.usage.seconds;
  wait.ram_share = wait.bytes_per_s / peaks.disk_bytes_per_s;
}

nlohmann::ordered_json stage_json(const char* name, const StageRate& r) {
  return {{"stage", name},
          {"share", r.time_share},
          {"gb_s", r.bytes_per_s / kGiga},
          {"gop_s", r.ops_per_s / kGiga},
          {"gb_share", r.ram_share},
          {"gop_share", r.compute_share}};
}

std::string stage_row(const char* name, const StageRate& r) {
  return fmt::format("  {:<17} {:>6.1f} {:>9.2f} {:>7.1f} {:>9.1f} {:>7.1f}\n", name,
                     r.time_share * 100, r.bytes_per_s / kGiga, r.ram_share * 100,
                     r.ops_per_s / kGiga, r.compute_share * 100);
}

}  // namespace

Roofline BenchReport::roofline_of(const BenchRun& run) const {
  const Work work = work_of(session_.layout(), session_.options().kv, run.counts,
                            {run.usage.hits + run.usage.misses, run.usage.low_uses});
  Roofline r = roofline(work, run.times, run.usage.seconds, peaks_);
  show_disk(run, peaks_, r);
  return r;
}

// Tokens per second if all bytes that this run moved had moved at the measured rates, memory and
// disk at once.
double BenchReport::bound_tok_s(const BenchRun& run) const {
  double t = roofline_of(run).total.ram_share * run.usage.seconds;
  if (peaks_.disk_bytes_per_s > 0)
    t = std::max(t, static_cast<double>(run.usage.bytes_read) / peaks_.disk_bytes_per_s);
  return t > 0 ? run.usage.n_tok / t : 0;
}

// Tokens per second if only the reads of a layer's experts and their computation overlapped, both
// as fast as measured: 1 / (t_dense + max(t_experts, t_io)). Layers wait for one another, so
// without looking ahead nothing can be faster. 0: nothing was read.
double BenchReport::overlap_bound_tok_s(const BenchRun& run) const {
  if (run.usage.bytes_read == 0 || peaks_.disk_bytes_per_s <= 0) return 0;
  const auto ns = [&](Stage stage) { return static_cast<double>(run.times[stage]); };
  const double t_experts = ns(Stage::kExperts) * 1e-9;
  const double t_dense =
      (static_cast<double>(run.times.total()) - ns(Stage::kExperts) - ns(Stage::kDiskWait)) * 1e-9;
  const double t_io = static_cast<double>(run.usage.bytes_read) / peaks_.disk_bytes_per_s;
  return run.usage.n_tok / (t_dense + std::max(t_experts, t_io));
}

void BenchReport::begin() const {
  if (json_) return;
  const Backend& backend = session_.backend();
  std::string line = fmt::format(
      "{} threads, {}: memory {:.1f} GB/s, 8-bit products {:.0f} GOP/s, f32 products {:.0f} GOP/s",
      backend.n_threads(), backend.isa(), peaks_.ram_bytes_per_s / kGiga,
      gops(peaks_.dot_macs_per_s), gops(peaks_.fma_macs_per_s));
  if (peaks_.disk_bytes_per_s > 0)
    line += fmt::format(", disk {:.2f} GB/s", peaks_.disk_bytes_per_s / kGiga);
  write_out(line + "\n");
  flush_out();
}

void BenchReport::add(const BenchTest& test) const {
  const auto median = [&](auto get) { return median_of(test.runs, get); };
  const double tok_s = median([](const BenchRun& r) { return r.usage.tok_s(); });
  const double hit_rate = median([](const BenchRun& r) { return r.usage.hit_rate(); });
  const double bytes_per_tok = median([](const BenchRun& r) { return r.usage.bytes_per_tok(); });
  const double stall = median([](const BenchRun& r) { return r.usage.stall_share(); });
  const double bound = median([&](const BenchRun& r) { return bound_tok_s(r); });
  const BenchRun& run = middle_run(test.runs);
  if (!json_) {
    write_out(
        fmt::format("\n{:<8} {:>6} {:>6} {:>6} {:>10} {:>9} {:>12} {:>7} {:>10} {:>10}\n"
                    "{:<8} {:>6} {:>6} {:>6} {:>10.2f} {:>9.1f} {:>12} {:>7.1f} {:>10.1f} {:>10}\n",
                    "test", "n_tok", "batch", "depth", "tok/s", "hit %", "disk/tok", "stall %",
                    "bound", "peak", test.name, test.n_tok, test.batch, test.depth, tok_s,
                    hit_rate * 100, format_size(static_cast<uint64_t>(bytes_per_tok)), stall * 100,
                    bound, format_size(own_peak_bytes())));
    print_stages(test, run);
    if (const double overlap = overlap_bound_tok_s(run); overlap > 0)
      write_out(
          fmt::format("  1 / (t_dense + max(t_experts, t_io)) = {:.2f} tok/s: {:.0f} % of it\n",
                      overlap, 100 * run.usage.tok_s() / overlap));
    if (run.precision.n_uses > 0)
      write_out("  " + precision_text(run.precision, run.thresholds) + "\n");
    if (run.prefetch_gain != 1)
      write_out(fmt::format("  prefetch {}: {:.2f} x the speed without\n",
                            run.prefetch_gain > 1 ? "on" : "off, it does not pay",
                            run.prefetch_gain));
    return;
  }
  const Roofline r = roofline_of(run);
  nlohmann::ordered_json stages = nlohmann::ordered_json::array();
  for (size_t i = 0; i < kNStages; i++)
    stages.push_back(stage_json(stage_name(static_cast<Stage>(i)), r.stages[i]));
  stages.push_back({{"stage", "sampling"}, {"share", test.sampling_seconds / run.usage.seconds}});
  nlohmann::ordered_json object = {{"test", test.name},
                                   {"n_tok", test.n_tok},
                                   {"batch", test.batch},
                                   {"depth", test.depth},
                                   {"tok_s", tok_s},
                                   {"hit_rate", hit_rate},
                                   {"bytes_per_tok", bytes_per_tok},
                                   {"stall_share", stall},
                                   {"bound_tok_s", bound},
                                   {"peak_bytes", own_peak_bytes()},
                                   {"peak_gb_s", peaks_.ram_bytes_per_s / kGiga},
                                   {"peak_gop_s", gops(peaks_.dot_macs_per_s)},
                                   {"peak_f32_gop_s", gops(peaks_.fma_macs_per_s)},
                                   {"peak_disk_gb_s", peaks_.disk_bytes_per_s / kGiga},
                                   {"gb_s", r.total.bytes_per_s / kGiga},
                                   {"gop_s", r.total.ops_per_s / kGiga},
                                   {"gb_share", r.total.ram_share},
                                   {"gop_share", r.total.compute_share},

                                   {"stages", stages}};
  if (const double overlap = overlap_bound_tok_s(run); overlap > 0)
    object["overlap_bound_tok_s"] = overlap;
  if (run.prefetch_gain != 1) object["prefetch_gain"] = run.prefetch_gain;
  if (run.precision.n_uses > 0) add_precision(object, run.precision, run.thresholds);
  write_json(object);
}

void BenchReport::print_stages(const BenchTest& test, const BenchRun& run) const {
  const Roofline r = roofline_of(run);
  std::string text = fmt::format("  {:<17} {:>6} {:>9} {:>7} {:>9} {:>7}\n", "", "time %", "GB/s",
                                 "% peak", "GOP/s", "% peak");
  for (size_t i = 0; i < kNStages; i++)
    if (r.stages[i].time_share >= 0.0005)
      text += stage_row(stage_name(static_cast<Stage>(i)), r.stages[i]);
  text += stage_row("all", r.total);
  text += fmt::format("  {:<17} {:>6.1f}   on top, not part of tok/s\n", "sampling",
                      test.sampling_seconds / run.usage.seconds * 100);
  write_out(text);
  flush_out();
}

}  // namespace hob::app
