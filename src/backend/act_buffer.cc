#include "backend/act_buffer.h"

#include "base/error.h"

namespace hob {

// Per row: q (d bytes), d and dsum (d/32 floats each), sum16 (d/16 ints), each part padded to a
// cache line.
namespace {
size_t line(size_t n) { return (n + 63) / 64 * 64; }
}  // namespace

size_t ActBuffer::row_bytes(int d) {
  const size_t n = static_cast<size_t>(d);
  return line(n) + 2 * line(n / kActBlock * 4) + line(n / 16 * 4);
}

void ActBuffer::resize(int n_rows, int d) {
  HOB_CHECK(d % kActBlock == 0);
  const size_t stride = row_bytes(d), need = stride * static_cast<size_t>(n_rows);
  if (need > buffer_.size()) buffer_ = AlignedBuffer(need);
  if (rows_.size() < static_cast<size_t>(n_rows)) rows_.resize(static_cast<size_t>(n_rows));
  const size_t n = static_cast<size_t>(d);
  std::byte* p = buffer_.data();
  for (int r = 0; r < n_rows; r++, p += stride) {
    std::byte* d_at = p + line(n);
    std::byte* dsum_at = d_at + line(n / kActBlock * 4);
    std::byte* sum_at = dsum_at + line(n / kActBlock * 4);
    rows_[static_cast<size_t>(r)] = {reinterpret_cast<int8_t*>(p), reinterpret_cast<float*>(d_at),
                                     reinterpret_cast<float*>(dsum_at),
                                     reinterpret_cast<int32_t*>(sum_at)};
  }
}

MutableActRow ActBuffer::mutable_row(int r) const {
  const ActRow& a = rows_[static_cast<size_t>(r)];
  return {const_cast<int8_t*>(a.q), const_cast<float*>(a.d), const_cast<float*>(a.dsum),
          const_cast<int32_t*>(a.sum16)};
}

}  // namespace hob
