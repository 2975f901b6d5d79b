#include "experts/expert_store.h"

#include <algorithm>

#include "base/align.h"
#include "base/async_file.h"
#include "base/error.h"

namespace hob {
namespace {

// A range may begin and end anywhere in a page.
uint64_t aligned_bytes(const ExpertReads& reads) {
  uint64_t n = 0;
  for (const ByteRange& r : reads.ranges()) n += round_up(r.n_bytes, kIoAlign) + kIoAlign;
  return n;
}

}  // namespace

ExpertReads::ExpertReads(std::span<const ByteRange> ranges) : n_(ranges.size()) {
  HOB_CHECK(!ranges.empty() && n_ <= kMost);
  std::copy(ranges.begin(), ranges.end(), ranges_.begin());
}

uint64_t ExpertReads::n_bytes() const {
  uint64_t n = 0;
  for (const ByteRange& r : ranges()) n += r.n_bytes;
  return n;
}

ExpertReads ExpertMatrix::reads_of(int expert) const {
  if (!reads.empty()) return reads[static_cast<size_t>(expert)];
  return ByteRange{file, offset + static_cast<uint64_t>(expert) * bytes_per_expert,
                   bytes_per_expert};
}

uint64_t largest_read(const ExpertMatrix& m) {
  if (m.reads.empty()) return aligned_bytes(ByteRange{m.file, m.offset, m.bytes_per_expert});
  uint64_t most = 0;
  for (const ExpertReads& r : m.reads) most = std::max(most, aligned_bytes(r));
  return most;
}

}  // namespace hob
