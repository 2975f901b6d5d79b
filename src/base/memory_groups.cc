#include "base/memory_groups.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/memory_info.h"

namespace hob {
namespace {

// A hierarchy that is mounted.
struct Mount {
  std::string root;  // the group that its mount point shows
  std::string point;
  bool v2 = true;
};

bool lists(const std::string& commas, const std::string& name) {
  return ("," + commas + ",").find("," + name + ",") != std::string::npos;
}

// Space, tab, line feed and backslash stand as three octal digits in mountinfo.
std::string unescaped(const std::string& text) {
  const auto is_octal = [&](size_t i) { return text[i] >= '0' && text[i] <= '7'; };
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '\\' || i + 3 >= text.size() || !is_octal(i + 1) || !is_octal(i + 2) ||
        !is_octal(i + 3)) {
      out += text[i];
      continue;
    }
    out +=
        static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
    i += 3;
  }
  return out;
}

// "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory", see proc(5).
std::vector<Mount> read_mounts(const MemoryPaths& paths) {
  std::ifstream in(paths.proc + "/self/mountinfo");
  std::vector<Mount> mounts;
  if (!in)
    return {{"/", paths.cgroup, true},
            {"/", paths.cgroup + "/unified", true},
            {"/", paths.cgroup + "/memory", false}};
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::vector<std::string> fields;
    for (std::string word; words >> word;) fields.push_back(word);
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    const bool v2 = dash[1] == "cgroup2";
    if (!v2 && (dash[1] != "cgroup" || !lists(dash[3], "memory"))) continue;
    mounts.push_back({unescaped(fields[3]), unescaped(fields[4]), v2});
  }
  return mounts;
}

// A container may see only its own group, mounted as the root, while self/cgroup names the host's
// path: then the mount point itself is all there is to ask.
std::string path_below(const std::string& root, const std::string& path) {
  if (path.find("..") != std::string::npos || !path.starts_with("/")) return "";
  if (root == "/") return path == "/" ? "" : path;
  if (path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/'))
    return path.substr(root.size());
  return "";
}

void add_groups(const Mount& mount, const std::string& path, std::vector<MemoryGroup>& groups) {
  std::string below = path_below(mount.root, path);
  while (!below.empty()) {
    groups.push_back({mount.point + below, mount.v2});
    below.resize(below.find_last_of('/'));
  }
  groups.push_back({mount.point, mount.v2});
}

}  // namespace

std::vector<MemoryGroup> memory_groups(const MemoryPaths& paths) {
  const std::vector<Mount> mounts = read_mounts(paths);
  std::vector<MemoryGroup> groups;
  // Lines of self/cgroup: "0::/path" (v2) and "4:memory:/path" (v1).
  std::ifstream in(paths.proc + "/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && !lists(controllers, "memory")) continue;
    for (const Mount& mount : mounts)
      if (mount.v2 == v2) add_groups(mount, line.substr(second + 1), groups);
  }
  return groups;
}

}  // namespace hob
