#pragma once
// What the system lets this process use, and what it uses. Linux; reads /proc and the cgroup file
// systems.
#include <cstdint>
#include <optional>
#include <string>

namespace hob {

// Where to look; tests point it at a directory of their own.
struct MemoryPaths {
  std::string proc = "/proc";
  std::string cgroup = "/sys/fs/cgroup";
};

struct MemoryInfo {
  uint64_t total_bytes = 0;  // MemTotal
  uint64_t available_bytes =
      0;  // MemAvailable: free + what the kernel can reclaim without swapping
  // Tightest limit among the memory cgroup of this process and its parents (v1 or v2); nullopt =
  // unlimited.
  std::optional<uint64_t> cgroup_limit_bytes;
  // What the tightest group still has: limit - usage + inactive page cache, smallest over the same
  // groups.
  std::optional<uint64_t> cgroup_room_bytes;
  uint64_t own_rss_bytes = 0;   // resident now
  uint64_t own_peak_bytes = 0;  // highest resident size so far (VmHWM)
};

MemoryInfo read_memory_info(const MemoryPaths& paths = {});

// Highest resident size of this process so far.
uint64_t own_peak_bytes();
// Starts the measurement of the peak anew, where the system allows it.
void reset_own_peak();

// What `--memory auto` means: everything that this process could have now, its own pages included,
// less headroom for the rest of the system (1/16, at least 64 MiB, at most 1 GiB).
uint64_t auto_memory_bytes(const MemoryInfo& info);

}  // namespace hob
