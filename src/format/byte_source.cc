#include "format/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace hob {
namespace {

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

// Length of the well-formed UTF-8 sequence at the start of `text` (Unicode table 3-7), 0 when there
// is none.
size_t utf8_length(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  const size_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < n) return 0;
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < n; i++) {
    if ((at(i) & 0xC0) != 0x80) return 0;
  }
  return n;
}

}  // namespace

void MemorySource::read(uint64_t offset, std::span<std::byte> dst) const {
  HOB_CHECK(offset <= bytes_.size() && dst.size() <= bytes_.size() - offset);
  if (!dst.empty()) std::memcpy(dst.data(), bytes_.data() + offset, dst.size());
}

FileSource::FileSource(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a pipe without a writer must not hang; it changes nothing for regular
  // files.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) {
    const Code code = errno == ENOENT || errno == ENOTDIR ? Code::kNotFound : Code::kIo;
    fail(code, "[file] {}: cannot open, {}", printable(path), std::strerror(errno));
  }
  struct stat info {};
  const bool known = ::fstat(fd_, &info) == 0;
  if (known && S_ISREG(info.st_mode)) {
    size_ = static_cast<uint64_t>(info.st_size);
    return;
  }
  const std::string fact = known ? std::string(kind_of(info.st_mode)) : std::strerror(errno);
  ::close(fd_);
  fail(Code::kInvalidArgument, "[file] {}: expected a regular file, it is {}", printable(path),
       fact);
}

FileSource::~FileSource() {
  constexpr uint64_t kReadAhead = 1 << 20;  // the kernel may have read further than was asked for
  ::posix_fadvise(fd_, 0, static_cast<off_t>(end_read_ + kReadAhead), POSIX_FADV_DONTNEED);
  ::close(fd_);
}

void FileSource::read(uint64_t offset, std::span<std::byte> dst) const {
  HOB_CHECK(offset <= size_ && dst.size() <= size_ - offset);
  size_t done = 0;
  while (done < dst.size()) {
    const ssize_t n =
        ::pread(fd_, dst.data() + done, dst.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      fail(Code::kIo, "[file] {}: cannot read at byte {}, {}", printable(path_), offset + done,
           std::strerror(errno));
    }
    if (n == 0) {
      fail(Code::kDataLoss, "[file] {}: expected {} bytes, the file now ends at byte {}",
           printable(path_), size_, offset + done);
    }
    done += static_cast<size_t>(n);
  }
  end_read_ = std::max(end_read_, offset + done);
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t n = utf8_length(text);
    if (n == 0) return false;
    text.remove_prefix(n);
  }
  return true;
}

std::string printable(std::string_view text) {
  constexpr size_t kMaxBytes = 200;
  std::string out;
  while (!text.empty()) {
    if (out.size() > kMaxBytes) return out + "...";
    const size_t n = utf8_length(text);
    const auto lead = static_cast<unsigned char>(text[0]);
    if (n == 0 || lead < 0x20 || lead == 0x7F) {
      out += fmt::format("\\x{:02x}", lead);
    } else {
      out += text.substr(0, n);
    }
    text.remove_prefix(std::max<size_t>(n, 1));
  }
  return out;
}

}  // namespace hob
