// Replaces this test program's allocator by one that counts. The other forms of operator new end in
// these.
#include "unit/engine/allocation_util.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<size_t> n_calls{0};

void* counted(size_t n_bytes, size_t alignment) {
  n_calls.fetch_add(1, std::memory_order_relaxed);
  const size_t rounded = (n_bytes + alignment - 1) / alignment * alignment;
  if (void* p = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded)) return p;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(size_t n_bytes) { return counted(n_bytes, alignof(std::max_align_t)); }
void* operator new(size_t n_bytes, std::align_val_t alignment) {
  return counted(n_bytes, static_cast<size_t>(alignment));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace hob {

size_t n_allocations() { return n_calls.load(std::memory_order_relaxed); }

}  // namespace hob
