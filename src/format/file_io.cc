#include "format/file_io.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace hob {

OutputFd::OutputFd(std::string path, int flags) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), flags | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_with_errno("open");
}

OutputFd::~OutputFd() { ::close(fd_); }

void OutputFd::fail_with_errno(const char* what) const {
  const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
  fail(full ? Code::kResourceExhausted : Code::kIo, "[file] {}: cannot {}, {}", path_, what,
       std::strerror(errno));
}

uint64_t OutputFd::size() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) fail_with_errno("measure");
  return static_cast<uint64_t>(info.st_size);
}

void OutputFd::try_direct() {
  const int flags = ::fcntl(fd_, F_GETFL);
  direct_ = flags >= 0 && ::fcntl(fd_, F_SETFL, flags | O_DIRECT) == 0;
}

void OutputFd::drop_direct() const {
  const int flags = ::fcntl(fd_, F_GETFL);
  if (flags >= 0) static_cast<void>(::fcntl(fd_, F_SETFL, flags & ~O_DIRECT));
  direct_ = false;
}

// After a failed read or write.
bool OutputFd::try_again() const {
  if (errno == EINTR) return true;
  if (errno != EINVAL || !direct_) return false;
  drop_direct();
  return true;
}

bool OutputFd::try_lock() const { return ::flock(fd_, LOCK_EX | LOCK_NB) == 0; }

bool OutputFd::is_named_path() const {
  struct stat own {
  }, named{};
  return ::fstat(fd_, &own) == 0 && ::stat(path_.c_str(), &named) == 0 &&
         own.st_dev == named.st_dev && own.st_ino == named.st_ino;
}

void OutputFd::write_at(uint64_t offset, std::span<const std::byte> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && try_again()) continue;
    if (n == 0) errno = ENOSPC;
    if (n <= 0) fail_with_errno("write");
    done += static_cast<size_t>(n);
  }
  if (!direct_) leave_cache(offset, bytes.size());
}

// Written pages count against a memory cgroup until they are on disk and dropped. Only large
// pieces: for a few pages the wait costs more than they do.
void OutputFd::leave_cache(uint64_t offset, size_t n_bytes) const {
  constexpr size_t kWorthIt = 256 << 10;
  if (n_bytes < kWorthIt) return;
  const auto at = static_cast<off_t>(offset);
  const auto n = static_cast<off_t>(n_bytes);
  static_cast<void>(::sync_file_range(
      fd_, at, n,
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
  static_cast<void>(::posix_fadvise(fd_, at, n, POSIX_FADV_DONTNEED));
}

void OutputFd::reserve(uint64_t n_bytes) const {
  // Not posix_fallocate: its emulation writes to every block.
  if (::fallocate(fd_, 0, 0, static_cast<off_t>(n_bytes)) == 0) return;
  if (errno != EOPNOTSUPP && errno != ENOSYS) fail_with_errno("reserve its size");
  truncate(n_bytes);
}

size_t OutputFd::read_at(uint64_t offset, std::span<std::byte> dst) const {
  size_t done = 0;
  while (done < dst.size()) {
    const ssize_t n =
        ::pread(fd_, dst.data() + done, dst.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && try_again()) continue;
    if (n < 0) fail_with_errno("read");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

void OutputFd::truncate(uint64_t n_bytes) const {
  if (::ftruncate(fd_, static_cast<off_t>(n_bytes)) != 0) fail_with_errno("set its size");
}

void OutputFd::sync() const {
  if (::fsync(fd_) != 0) fail_with_errno("sync");
}

void sync_folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  static_cast<void>(::fsync(fd));
  ::close(fd);
}

}  // namespace hob
