#pragma once
// Sequential reads of model files that leave nothing behind in the page cache: O_DIRECT where the
// file system allows it, else pread and POSIX_FADV_DONTNEED.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"

namespace hob {

class DirectReader {
 public:
  // One read may ask for up to max_read_bytes. `direct` = false skips O_DIRECT.
  DirectReader(std::vector<std::string> files, size_t max_read_bytes, bool direct = true);
  ~DirectReader();
  DirectReader(const DirectReader&) = delete;
  DirectReader& operator=(const DirectReader&) = delete;

  // Bytes [offset, offset + n) of a file, valid until the next call. Throws Error(kIo) on a read
  // error and Error(kDataLoss) when the file ends before.
  std::span<const std::byte> read(int file, uint64_t offset, size_t n);

 private:
  struct OpenFile {
    int fd = -1;
    bool direct = false;
  };
  OpenFile& opened(int file);
  void reopen_buffered(int file);
  size_t read_range(int file, uint64_t offset, size_t n_wanted, size_t n_needed);

  std::vector<std::string> paths_;
  std::vector<OpenFile> files_;
  bool direct_;
  AlignedBuffer staging_;
};

}  // namespace hob
