#include "base/memory_info.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

namespace hob {
namespace {

std::optional<uint64_t> parse_number(const std::string& text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos || text.size() > 20)
    return std::nullopt;  // "max", or not a number
  return std::stoull(text);
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

// v1 writes "unlimited" as the largest multiple of the page size that fits in 63 bits.
constexpr uint64_t kUnlimited = uint64_t{1} << 60;

struct GroupFiles {
  std::string root;  // mount point of the hierarchy
  std::string path;  // of this process inside it, "/a/b"
  const char* limit;
  const char* usage;
  const char* inactive;  // key in memory.stat
};

void apply_group(const GroupFiles& files, const std::string& dir, MemoryInfo& info) {
  const auto limit = read_number(dir + "/" + files.limit);
  if (!limit || *limit >= kUnlimited) return;
  info.cgroup_limit_bytes = std::min(info.cgroup_limit_bytes.value_or(UINT64_MAX), *limit);
  const uint64_t usage = read_number(dir + "/" + files.usage).value_or(0);
  const uint64_t inactive = read_field(dir + "/memory.stat", files.inactive).value_or(0);
  const uint64_t used = usage - std::min(usage, inactive);
  const uint64_t room = *limit - std::min(*limit, used);
  info.cgroup_room_bytes = std::min(info.cgroup_room_bytes.value_or(UINT64_MAX), room);
}

// The limit of any parent binds its children, so every level is asked. Inside a container the path
// of /proc/self/cgroup may name directories that are not mounted; then only the root of the mount
// is there to ask.
void walk_up(const GroupFiles& files, MemoryInfo& info) {
  std::string path = files.path;
  while (!path.empty() && path != "/") {
    apply_group(files, files.root + path, info);
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
  apply_group(files, files.root, info);
}

// Lines of /proc/self/cgroup: "0::/path" (v2) and "4:memory:/path" (v1).
void read_cgroups(const MemoryPaths& paths, MemoryInfo& info) {
  std::ifstream in(paths.proc + "/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      for (const char* mount : {"", "/unified"})
        walk_up({paths.cgroup + mount, path, "memory.max", "memory.current", "inactive_file"},
                info);
    } else if (controllers.find(",memory,") != std::string::npos) {
      walk_up({paths.cgroup + "/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes",
               "total_inactive_file"},
              info);
    }
  }
}

uint64_t kib_field(const std::string& path, std::string_view key) {
  return read_field(path, key).value_or(0) * 1024;
}

}  // namespace

MemoryInfo read_memory_info(const MemoryPaths& paths) {
  MemoryInfo info;
  info.total_bytes = kib_field(paths.proc + "/meminfo", "MemTotal:");
  info.available_bytes = kib_field(paths.proc + "/meminfo", "MemAvailable:");
  info.own_rss_bytes = kib_field(paths.proc + "/self/status", "VmRSS:");
  info.own_peak_bytes = kib_field(paths.proc + "/self/status", "VmHWM:");
  read_cgroups(paths, info);
  return info;
}

uint64_t own_peak_bytes() { return kib_field("/proc/self/status", "VmHWM:"); }

void reset_own_peak() {
  std::ofstream("/proc/self/clear_refs") << "5";  // see proc(5)
}

uint64_t auto_memory_bytes(const MemoryInfo& info) {
  constexpr uint64_t kMiB = 1 << 20;
  uint64_t room = info.available_bytes;
  if (info.cgroup_room_bytes) room = std::min(room, *info.cgroup_room_bytes);
  const uint64_t usable = room + info.own_rss_bytes;
  const uint64_t headroom = std::clamp(usable / 16, 64 * kMiB, 1024 * kMiB);
  return usable - std::min(usable, headroom);
}

}  // namespace hob
