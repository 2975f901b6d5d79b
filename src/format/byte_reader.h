#pragma once
// Reads a ByteSource from front to back through one fixed buffer. Every read is checked against the
// bytes that are left, so a lying length ends in one error line and not in an allocation.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "format/byte_source.h"

namespace hob {

static_assert(std::endian::native == std::endian::little,
              "files are little endian and read unswapped");

class ByteReader {
 public:
  // `source` must outlive the reader. `label` names the input in errors.
  ByteReader(const ByteSource& source, std::string_view label)
      : source_(source), label_(label), buffer_(kBufferBytes) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return source_.size() - position_; }

  // Throws unless `n` elements of `element_bytes` are still there; `what` names the field.
  void need(uint64_t n, uint64_t element_bytes, std::string_view what) const {
    if (n <= remaining() / element_bytes) return;
    fail(Code::kDataLoss,
         "[gguf] {}: truncated: {} needs {} x {} bytes at byte {}, the file has {} bytes", label_,
         what, n, element_bytes, position_, source_.size());
  }

  void read(void* dst, size_t n_bytes, std::string_view what) {
    need(n_bytes, 1, what);
    auto* out = static_cast<std::byte*>(dst);
    while (n_bytes > 0) {
      if (position_ < start_ || position_ >= start_ + filled_) fill();
      const size_t skip = static_cast<size_t>(position_ - start_);
      const size_t n = std::min(n_bytes, filled_ - skip);
      std::memcpy(out, buffer_.data() + skip, n);
      out += n;
      n_bytes -= n;
      position_ += n;
    }
  }

  template <class T>
  T get(std::string_view what) {
    T value;
    read(&value, sizeof value, what);
    return value;
  }

 private:
  static constexpr size_t kBufferBytes = 64 << 10;

  void fill() {
    start_ = position_;
    filled_ = static_cast<size_t>(std::min<uint64_t>(kBufferBytes, remaining()));
    source_.read(start_, {buffer_.data(), filled_});
  }

  const ByteSource& source_;
  std::string label_;
  std::vector<std::byte> buffer_;
  uint64_t position_ = 0;
  uint64_t start_ = 0;  // of the buffer, in the source
  size_t filled_ = 0;
};

}  // namespace hob
