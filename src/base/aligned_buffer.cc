#include "base/aligned_buffer.h"

#include <sys/mman.h>

#include "base/error.h"

namespace hob {
namespace {
constexpr size_t kPage = 4096;
}

AlignedBuffer::AlignedBuffer(size_t n_bytes, bool huge_pages) {
  if (n_bytes == 0) return;
  const size_t rounded = (n_bytes + kPage - 1) / kPage * kPage;
  void* p = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    fail(Code::kResourceExhausted, "[memory] expected {} more bytes, the system has none", rounded);
  // Without MADV_NOHUGEPAGE a system set to "always" may round what we touch up to 2 MiB and break the budget.
  madvise(p, rounded, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  data_ = static_cast<std::byte*>(p);
  size_ = n_bytes;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_) munmap(data_, (size_ + kPage - 1) / kPage * kPage);
}

void AlignedBuffer::discard(size_t offset, size_t n_bytes) {
  const size_t begin = (offset + kPage - 1) / kPage * kPage;
  const size_t end = (offset + n_bytes) / kPage * kPage;
  if (end > begin) madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace hob
