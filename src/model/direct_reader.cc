#include "model/direct_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace hob {
namespace {

// O_DIRECT wants offsets, lengths and addresses in units of the device's block; 4096 covers every
// common one.
constexpr uint64_t kUnit = 4096;

uint64_t down(uint64_t n) { return n / kUnit * kUnit; }
uint64_t up(uint64_t n) { return down(n + kUnit - 1); }

}  // namespace

DirectReader::DirectReader(std::vector<std::string> files, size_t max_read_bytes, bool direct)
    : paths_(std::move(files)),
      files_(paths_.size()),
      direct_(direct),
      staging_(up(max_read_bytes) + 2 * kUnit) {}  // a range may straddle a unit at both ends

DirectReader::~DirectReader() {
  for (const OpenFile& f : files_)
    if (f.fd >= 0) close(f.fd);
}

DirectReader::OpenFile& DirectReader::opened(int file) {
  HOB_CHECK(file >= 0 && static_cast<size_t>(file) < files_.size());
  OpenFile& f = files_[static_cast<size_t>(file)];
  if (f.fd >= 0) return f;
  const char* path = paths_[static_cast<size_t>(file)].c_str();
  if (direct_) f.fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
  f.direct = f.fd >= 0;
  if (f.fd < 0) f.fd = open(path, O_RDONLY | O_CLOEXEC);
  if (f.fd < 0) fail(Code::kIo, "[model] {}: expected to open it, {}", path, std::strerror(errno));
  return f;
}

// Some file systems accept the flag and refuse the reads.
void DirectReader::reopen_buffered(int file) {
  OpenFile& f = files_[static_cast<size_t>(file)];
  close(f.fd);
  f.direct = false;
  f.fd = open(paths_[static_cast<size_t>(file)].c_str(), O_RDONLY | O_CLOEXEC);
  if (f.fd < 0)
    fail(Code::kIo, "[model] {}: expected to open it again, {}", paths_[static_cast<size_t>(file)],
         std::strerror(errno));
}

// Reads up to n_wanted bytes into the staging buffer, at least n_needed; less only at the end of
// the file.
size_t DirectReader::read_range(int file, uint64_t offset, size_t n_wanted, size_t n_needed) {
  size_t done = 0;
  while (done < n_needed) {
    const OpenFile& f = opened(file);
    const ssize_t n =
        pread(f.fd, staging_.data() + done, n_wanted - done, static_cast<off_t>(offset + done));
    if (n == 0) break;
    if (n > 0) {
      done += static_cast<size_t>(n);
      continue;
    }
    if (errno == EINTR) continue;
    // EINVAL: refused alignment. It also ends a direct read that stopped short inside a unit (end
    // of the file).
    if (errno == EINVAL && f.direct) {
      reopen_buffered(file);
      continue;
    }
    fail(Code::kIo, "[model] {}: expected {} bytes at offset {}, {}",
         paths_[static_cast<size_t>(file)], n_wanted - done, offset + done, std::strerror(errno));
  }
  return done;
}

std::span<const std::byte> DirectReader::read(int file, uint64_t offset, size_t n) {
  const uint64_t begin = down(offset);
  const size_t skip = offset - begin;
  const size_t n_wanted = up(offset + n) - begin;
  HOB_CHECK(n_wanted <= staging_.size());
  const size_t got = read_range(file, begin, n_wanted, skip + n);
  if (got < skip + n)
    fail(Code::kDataLoss, "[model] {}: expected {} bytes at offset {}, the file ends at {}",
         paths_[static_cast<size_t>(file)], n, offset, begin + got);
  const OpenFile& f = files_[static_cast<size_t>(file)];
  if (!f.direct)
    posix_fadvise(f.fd, static_cast<off_t>(begin), static_cast<off_t>(n_wanted),
                  POSIX_FADV_DONTNEED);
  return {staging_.data() + skip, n};
}

}  // namespace hob
