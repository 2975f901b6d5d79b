#include "trace_options.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/size_parse.h"

namespace hob::app {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// nullopt for anything but a finite number >= 0.
std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last || !std::isfinite(value) || value < 0)
    return std::nullopt;
  return value;
}

uint64_t size_option(const char* name, const std::string& text) {
  try {
    return parse_size(text);
  } catch (const Error& e) {
    throw UsageError(fmt::format("[usage] {}: {}", name, e.what()));
  }
}

uint64_t cache_bytes(const std::string& text, uint64_t total_bytes) {
  if (text.ends_with('%')) {
    const auto percent = parse_number(std::string_view(text).substr(0, text.size() - 1));
    if (!percent || *percent <= 0 || *percent > 100)
      throw UsageError(
          fmt::format("[usage] --cache: expected a share above 0 and up to 100 %, got '{}'", text));
    return static_cast<uint64_t>(*percent / 100 * static_cast<double>(total_bytes));
  }
  return size_option("--cache", text);
}

PrecisionMode precision_mode(const std::string& text) {
  if (text == "exact") return PrecisionMode::kExact;
  if (text == "mixed") return PrecisionMode::kMixed;
  if (text == "mixed+skip") return PrecisionMode::kMixedSkip;
  throw UsageError(
      fmt::format("[usage] --precision: expected exact, mixed or mixed+skip, got '{}'", text));
}

Warmup warmup_of(const std::string& text) {
  if (text == "chunk") return Warmup::kChunk;
  if (text == "tokens") return Warmup::kTokens;
  if (text == "none") return Warmup::kNone;
  throw UsageError(fmt::format("[usage] --warmup: expected chunk, tokens or none, got '{}'", text));
}

double low_share(const std::string& text) {
  const std::vector<std::string> parts = split(text, ':');
  const auto high = parse_number(parts[0]);
  const auto low = parts.size() == 2 ? parse_number(parts[1]) : std::nullopt;
  if (!high || !low || *high <= 0)
    throw UsageError(fmt::format("[usage] --split: expected HIGH:LOW, e.g. 80:20, got '{}'", text));
  return *low / (*high + *low);
}

}  // namespace

CLI::Option* add_replay_options(CLI::App& app, ReplayArguments& a) {
  CLI::Option* files = app.add_option("TRACE", a.files, "trace file (CSV)")->required();
  app.add_option("--cache", a.cache, "sizes, comma separated: 500M, 2G, or 10% of all experts");
  app.add_option("--precision", a.precision, "exact, mixed or mixed+skip");
  app.add_option("--t1", a.t1, "unimportance up to which a miss loads high; default: --q1")
      ->check(number_in(0.0, 1.0));
  app.add_option("--t2", a.t2, "unimportance beyond which a miss is skipped; default: --q2")
      ->check(number_in(0.0, 1.0));
  app.add_option("--q1", a.q1, "t1 as a percentile of the trace's scores")
      ->check(number_in(0.0, 100.0));
  app.add_option("--q2", a.q2, "t2 as a percentile of the trace's scores")
      ->check(number_in(0.0, 100.0));
  app.add_option("--low-ratio", a.low_ratio, "bytes of a low copy / bytes of a high one")
      ->check(number_in(0.01, 1.0));
  app.add_option("--expert-bytes", a.expert_bytes, "size of every expert; default: the trace's");
  app.add_option("--split", a.split, "memory of high and low copies; 100:0 = a low scratch ring");
  app.add_option("--warmup", a.warmup, "prompt first: as one chunk, token by token (tokens), none");
  app.add_flag("--json", a.json, "one JSON object per line on stdout");
  app.add_flag("--quiet", a.quiet, "no notes and no progress on stderr");
  return files;
}

ReplayOptions replay_options(const ReplayArguments& a) {
  ReplayOptions o;
  o.mode = precision_mode(a.precision);
  o.warmup = warmup_of(a.warmup);
  o.low_ratio = a.low_ratio;
  if (!a.expert_bytes.empty()) o.expert_bytes = size_option("--expert-bytes", a.expert_bytes);
  if (a.q1 > a.q2)
    throw UsageError(fmt::format("[usage] expected --q1 <= --q2, got {} and {}", a.q1, a.q2));
  o.q1 = a.q1 / 100;
  o.q2 = a.q2 / 100;
  if ((a.t1 < 0) != (a.t2 < 0))
    throw UsageError("[usage] expected both of --t1 and --t2 or none, got one");
  if (a.t1 > a.t2)
    throw UsageError(fmt::format("[usage] expected --t1 <= --t2, got {} and {}", a.t1, a.t2));
  if (a.t1 >= 0) o.thresholds = Thresholds{static_cast<float>(a.t1), static_cast<float>(a.t2)};
  return o;
}

std::vector<Replay> read_replays(const ReplayArguments& a) {
  const ReplayOptions options = replay_options(a);
  std::vector<Replay> replays;
  for (const std::string& file : a.files)
    replays.push_back(make_replay(read_route_traces(file), options));
  return replays;
}

std::vector<SimBudget> budgets(const ReplayArguments& a, const Replay& replay) {
  const double low = low_share(a.split);
  std::vector<SimBudget> list;
  for (const std::string& text : split(a.cache, ',')) {
    const uint64_t bytes = cache_bytes(text, replay.shape.total_bytes());
    const auto low_bytes = static_cast<uint64_t>(low * static_cast<double>(bytes));
    list.push_back({.high_bytes = bytes - low_bytes, .low_bytes = low_bytes});
  }
  return list;
}

std::vector<std::string> split_policies(const std::string& list) {
  std::vector<std::string> policies;
  for (const std::string& part : split(list, ',')) {
    const bool name = part.empty() || std::isalpha(static_cast<unsigned char>(part[0]));
    if (name || policies.empty())
      policies.push_back(part);
    else
      policies.back() += "," + part;
  }
  return policies;
}

}  // namespace hob::app
