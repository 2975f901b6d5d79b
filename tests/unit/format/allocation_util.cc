// Replaces this test program's allocator by one that remembers the largest request.
#include <atomic>
#include <cstdlib>
#include <new>

#include "unit/format/gguf_bytes.h"

namespace {
std::atomic<size_t> largest_bytes{0};
}

void* operator new(size_t n_bytes) {
  size_t seen = largest_bytes.load();
  while (seen < n_bytes && !largest_bytes.compare_exchange_weak(seen, n_bytes)) {
  }
  if (void* p = std::malloc(n_bytes == 0 ? 1 : n_bytes)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace hob {

void reset_largest_allocation() { largest_bytes = 0; }
size_t largest_allocation() { return largest_bytes; }

}  // namespace hob
