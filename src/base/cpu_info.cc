#include "base/cpu_info.h"

#include <sched.h>

#include <algorithm>
#include <fstream>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace hob {
namespace {

#if defined(__x86_64__)
// clang 14's __builtin_cpu_supports does not know it. CPUID leaf 1, ECX bit 29.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

}  // namespace

CpuFeatures cpu_features() {
  CpuFeatures f;
#if defined(__x86_64__)
  __builtin_cpu_init();
  f.avx2_fma_f16c = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  f.avx512_vnni = f.avx2_fma_f16c && __builtin_cpu_supports("avx512f") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
  f.neon_dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
  return f;
}

std::vector<Core> read_cores(std::span<const int> ids, const std::string& sysfs) {
  std::vector<Core> cores;
  for (const int id : ids) {
    Core core{.id = id};
    std::ifstream file(sysfs + "/cpu" + std::to_string(id) + "/cpu_capacity");
    int capacity = 0;
    if (file >> capacity && capacity > 0) core.capacity = capacity;
    cores.push_back(core);
  }
  std::sort(cores.begin(), cores.end(), [](const Core& a, const Core& b) {
    return a.capacity != b.capacity ? a.capacity > b.capacity : a.id < b.id;
  });
  return cores;
}

int performance_cores(std::span<const Core> cores) {
  int fastest = 0, n = 0;
  for (const Core& c : cores) fastest = std::max(fastest, c.capacity);
  for (const Core& c : cores) n += 3 * c.capacity >= fastest;
  return n;
}

std::vector<Core> usable_cores() {
  std::vector<int> ids;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    for (int id = 0; id < CPU_SETSIZE; id++)
      if (CPU_ISSET(id, &set)) ids.push_back(id);
  return read_cores(ids, "/sys/devices/system/cpu");
}

int default_threads() { return std::max(1, performance_cores(usable_cores())); }

}  // namespace hob
