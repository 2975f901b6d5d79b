#include "base/memory_info.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>

#include "base/memory_groups.h"

namespace hob {
namespace {

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return std::nullopt;  // "max", or not a number
  return value;
}

std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream in(path);
  std::string word;
  if (!(in >> word)) return std::nullopt;
  return parse_number(word);
}

// The number after `key` in files of the form "key: 123 kB" or "key 123"; nullopt when it is not
// there.
std::optional<uint64_t> read_field(const std::string& path, std::string_view key) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string name, value;
    if (words >> name >> value && name == key) return parse_number(value);
  }
  return std::nullopt;
}

// v1 writes "unlimited" as the largest multiple of the page size that fits in 63 bits. Nothing that
// is real is larger.
constexpr uint64_t kUnlimited = uint64_t{1} << 60;

struct GroupFiles {
  const char* limits[2];
  const char* usage;
  const char* inactive;  // key in memory.stat
};
constexpr GroupFiles kV1 = {{"memory.limit_in_bytes", "memory.soft_limit_in_bytes"},
                            "memory.usage_in_bytes",
                            "total_inactive_file"};
constexpr GroupFiles kV2 = {{"memory.max", "memory.high"}, "memory.current", "inactive_file"};

void apply_group(const MemoryGroup& group, MemoryInfo& info) {
  const GroupFiles& files = group.v2 ? kV2 : kV1;
  uint64_t limit = kUnlimited;
  for (const char* name : files.limits)
    limit = std::min(limit, read_number(group.folder + "/" + name).value_or(kUnlimited));
  if (limit == kUnlimited) return;
  info.cgroup_limit_bytes = std::min(info.cgroup_limit_bytes.value_or(UINT64_MAX), limit);
  const auto usage = read_number(group.folder + "/" + files.usage);
  if (!usage || *usage >= kUnlimited) return;
  const uint64_t inactive = read_field(group.folder + "/memory.stat", files.inactive).value_or(0);
  const uint64_t used = *usage - std::min(*usage, inactive);
  const int64_t headroom = static_cast<int64_t>(limit) - static_cast<int64_t>(used);
  info.cgroup_headroom_bytes = std::min(info.cgroup_headroom_bytes.value_or(INT64_MAX), headroom);
}

// "avg10=1.53": percent.
std::optional<double> parse_avg10(std::string_view text) {
  constexpr std::string_view kKey = "avg10=";
  if (!text.starts_with(kKey)) return std::nullopt;
  text.remove_prefix(kKey.size());
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= 100))
    return std::nullopt;
  return value;
}

// Lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full ..."; both, or nothing.
std::optional<MemoryStall> read_stall(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::optional<double> some, full;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string kind, avg10;
    words >> kind >> avg10;
    if (kind == "some") some = parse_avg10(avg10);
    if (kind == "full") full = parse_avg10(avg10);
  }
  if (!some || !full) return std::nullopt;
  return MemoryStall{*some, *full};
}

std::optional<uint64_t> read_kib(const std::string& path, std::string_view key) {
  const auto kib = read_field(path, key);
  if (!kib || *kib >= kUnlimited / 1024) return std::nullopt;
  return *kib * 1024;
}

uint64_t kib_field(const std::string& path, std::string_view key) {
  return read_kib(path, key).value_or(0);
}

}  // namespace

MemoryInfo read_memory_info(const MemoryPaths& paths) {
  MemoryInfo info;
  info.total_bytes = kib_field(paths.proc + "/meminfo", "MemTotal:");
  info.available_bytes = read_kib(paths.proc + "/meminfo", "MemAvailable:");
  info.own_rss_bytes = kib_field(paths.proc + "/self/status", "VmRSS:");
  info.own_peak_bytes = kib_field(paths.proc + "/self/status", "VmHWM:");
  info.stall = read_stall(paths.proc + "/pressure/memory");
  for (const MemoryGroup& group : memory_groups(paths)) {
    apply_group(group, info);
    // The process's own group comes first. The root counts no usage: its stalls are the machine's.
    if (group.v2 && !info.cgroup_stall && read_number(group.folder + "/" + kV2.usage))
      info.cgroup_stall = read_stall(group.folder + "/memory.pressure");
  }
  return info;
}

uint64_t own_peak_bytes() { return kib_field("/proc/self/status", "VmHWM:"); }

void reset_own_peak() {
  std::ofstream("/proc/self/clear_refs") << "5";  // see proc(5)
}

uint64_t auto_memory_bytes(const MemoryInfo& info) {
  constexpr uint64_t kMiB = 1 << 20;
  uint64_t room = info.available_bytes.value_or(0);
  if (info.cgroup_headroom_bytes)
    room = std::min(room, static_cast<uint64_t>(std::max<int64_t>(0, *info.cgroup_headroom_bytes)));
  const uint64_t usable = room + info.own_rss_bytes;
  const uint64_t headroom = std::clamp(usable / 16, 64 * kMiB, 1024 * kMiB);
  return usable - std::min(usable, headroom);
}

}  // namespace hob
