#include "engine/memory_monitor.h"

#include <new>

#include "base/clock.h"
#include "base/thread.h"
#include "experts/expert_cache.h"

namespace hob {

MemoryMonitor::MemoryMonitor(const ExpertCache& cache, MemoryMonitorOptions options,
                             std::function<void(uint64_t budget_bytes)> order)
    : cache_(cache),
      options_(std::move(options)),
      order_(std::move(order)),
      controller_(cache.least_budget_bytes(), cache.full_budget_bytes(), options_.times),
      notes_(cache.full_budget_bytes()),
      thread_(start_thread("watching the memory", [this] { run(); })) {}

MemoryMonitor::~MemoryMonitor() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void MemoryMonitor::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, options_.period, [&] { return stopping_; })) {
    lock.unlock();
    try {
      look();
    } catch (const std::bad_alloc&) {  // the next look may have better luck
    }
    lock.lock();
  }
}

void MemoryMonitor::look() {
  const uint64_t before = controller_.budget_bytes();
  const double now_s = static_cast<double>(now_ns()) * 1e-9;
  const uint64_t used = cache_.used_bytes();
  const uint64_t budget =
      controller_.update(pressure_sample(read_memory_info(options_.paths), used, now_s));
  if (budget != before || used > budget) order_(budget);
  const std::optional<std::string> line = notes_.update(budget, now_s);
  if (line && options_.note) options_.note(*line);
}

}  // namespace hob
