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
  std::string cgroup = "/sys/fs/cgroup";  // only if proc has no self/mountinfo
};

// Pressure stall information: the share of the last ten seconds in which some task, or every task
// that was not idle, waited for memory.
struct MemoryStall {
  double some_percent = 0, full_percent = 0;
};

// What is missing on this system, or cannot be parsed, is absent.
struct MemoryInfo {
  uint64_t total_bytes = 0;  // MemTotal
  // MemAvailable: free + what the kernel can reclaim without swapping
  std::optional<uint64_t> available_bytes;
  // Tightest limit among the memory cgroup of this process and its parents: of v2 memory.max and
  // memory.high, of v1 memory.limit_in_bytes and memory.soft_limit_in_bytes. Beyond the softer of
  // each pair the kernel reclaims from this group first, and throttles it: experts would be read
  // from swap, or the engine stand still. nullopt = unlimited.
  std::optional<uint64_t> cgroup_limit_bytes;
  // limit - usage + inactive page cache, smallest over the same groups. Below zero when a limit was
  // lowered.
  std::optional<int64_t> cgroup_headroom_bytes;
  std::optional<MemoryStall> stall, cgroup_stall;  // of the machine; of the own group (v2)
  uint64_t own_rss_bytes = 0;                      // resident now
  uint64_t own_peak_bytes = 0;                     // highest resident size so far (VmHWM)
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
