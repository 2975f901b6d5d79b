#pragma once
#include <cstddef>
#include <utility>

namespace hob {

// Anonymous memory straight from mmap: zeroed, page aligned, physically present only where it was
// touched, 2 MiB aligned with huge pages, returned to the system on destruction (malloc would keep
// it, and the memory budget is a promise about the whole process). Throws Error(kResourceExhausted)
// when the system has none. Movable, not copyable.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t n_bytes, bool huge_pages = false);
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        mapping_(std::exchange(other.mapping_, nullptr)),
        mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapping_, other.mapping_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    return *this;
  }
  ~AlignedBuffer();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

  // Gives the physical pages that lie wholly inside [offset, offset + n_bytes) back to the system;
  // they read as zero.
  void discard(size_t offset, size_t n_bytes);

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::byte* mapping_ = nullptr;  // what munmap gets: data_ may be aligned up inside it
  size_t mapped_bytes_ = 0;
};

}  // namespace hob
