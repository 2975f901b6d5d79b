#pragma once
// Watches the memory of the machine and of the cgroup, and orders smaller or larger budgets for the
// expert cache. A thread of its own, because reading /sys may block.
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/memory_info.h"
#include "engine/memory_pressure.h"

namespace hob {

class ExpertCache;

struct MemoryMonitorOptions {
  bool enabled = false;
  // Lines for the operator, on the monitor's thread.
  std::function<void(const std::string&)> note;
  // Tests point these elsewhere and shorten them.
  MemoryPaths paths;
  std::chrono::milliseconds period{1000};
  PressureTimes times;
};

class MemoryMonitor {
 public:
  // Borrows the cache, whose used_bytes() it reads. `order`: on the monitor's thread; the budget
  // that the cache should have from now on, again as long as it holds more.
  MemoryMonitor(const ExpertCache& cache, MemoryMonitorOptions options,
                std::function<void(uint64_t budget_bytes)> order);
  ~MemoryMonitor();

 private:
  void run();
  void look();

  const ExpertCache& cache_;
  const MemoryMonitorOptions options_;
  const std::function<void(uint64_t)> order_;
  PressureController controller_;  // the monitor's thread only
  PressureNotes notes_;            // the same
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;  // under the mutex
  std::thread thread_;     // last: uses the rest
};

}  // namespace hob
