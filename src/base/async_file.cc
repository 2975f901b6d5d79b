#include "base/async_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace hob {
namespace {

// EINTR and EAGAIN are passing states; a device that answers with nothing else is broken.
constexpr int kMaxRetries = 100;

std::string system_text(int error) { return std::strerror(error); }

}  // namespace

DirectFile::DirectFile(std::string path, bool want_direct) : path_(std::move(path)) {
  if (want_direct) {
    fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
    direct_ = fd_ >= 0;
  }
  if (fd_ < 0) fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0)
    fail(Code::kIo, "[read] {}: expected a readable file, {}", path_, system_text(errno));
  // Read-ahead would fetch the neighbour expert, which nobody asked for.
  if (!direct()) posix_fadvise(fd_, 0, 0, POSIX_FADV_RANDOM);
}

DirectFile::~DirectFile() {
  if (fd_ >= 0) close(fd_);
}

void DirectFile::drop_direct() {
  const int flags = fcntl(fd_, F_GETFL);
  if (flags >= 0) fcntl(fd_, F_SETFL, flags & ~O_DIRECT);
  posix_fadvise(fd_, 0, 0, POSIX_FADV_RANDOM);
  direct_ = false;
}

void DirectFile::forget_cached(uint64_t offset, size_t n_bytes) const {
  if (!direct())
    posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(n_bytes),
                  POSIX_FADV_DONTNEED);
}

ReadProgress::Next ReadProgress::advance(int64_t result, DirectFile& file) {
  if (result < 0) {
    const int code = static_cast<int>(-result);
    if ((code == EINTR || code == EAGAIN) && n_retries++ < kMaxRetries) return Next::kReadAgain;
    if (code == EINVAL && n_retries++ == 0) {
      file.drop_direct();
      return Next::kReadAgain;
    }
    error = std::make_exception_ptr(Error(
        Code::kIo, fmt::format("[read] {}: expected {} bytes at offset {}, the system says: {}",
                               file.path(), op.n_required, op.offset, system_text(code))));
    return Next::kFinished;
  }
  size_t now = n_done + static_cast<size_t>(result);
  if (now >= op.n_required) {
    n_done = now;
    file.forget_cached(op.offset, op.n_bytes);
    return Next::kFinished;
  }
  // The rest must start at an aligned offset again; bytes of a broken block are read once more.
  if (file.direct()) now = now / kIoAlign * kIoAlign;
  if (now > n_done) {
    n_done = now;
    return Next::kReadAgain;
  }
  error = std::make_exception_ptr(
      Error(Code::kDataLoss, fmt::format("[read] {}: expected {} bytes at offset {}, the file ends "
                                         "before (truncated while running?)",
                                         file.path(), op.n_required, op.offset)));
  return Next::kFinished;
}

std::unique_ptr<AsyncReader> make_async_reader(const std::vector<std::string>& paths,
                                               const AsyncReaderOptions& options) {
  HOB_CHECK(options.depth > 0);
  FileSet files;
  for (const std::string& path : paths)
    files.push_back(std::make_unique<DirectFile>(path, options.direct_io));
  if (options.use_uring) {
    if (auto reader = make_uring_reader(std::move(files), options.depth)) return reader;
  }
  return make_pread_reader(std::move(files), options.depth);
}

}  // namespace hob
