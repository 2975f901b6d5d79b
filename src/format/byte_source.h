#pragma once
// Where a parser's bytes come from: a file, or memory in tests and fuzzers. The size is known and
// fixed beforehand, so that every length in the input can be checked against it before anything is
// allocated.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace hob {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  // Fills `dst` from `offset`; the caller stays within size(). Throws Error on a read error.
  virtual void read(uint64_t offset, std::span<std::byte> dst) const = 0;
};

// Does not own the bytes.
class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  void read(uint64_t offset, std::span<std::byte> dst) const override;

 private:
  std::span<const std::byte> bytes_;
};

// A regular file read with pread. Not mapped: a file that is truncated while mapped kills the
// process (SIGBUS), while a short pread is an error message. What was read leaves the page cache
// when the source is destroyed, because a process under a memory limit pays for those pages and the
// header is not read again.
class FileSource : public ByteSource {
 public:
  explicit FileSource(const std::string& path);
  ~FileSource() override;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  uint64_t size() const override { return size_; }
  void read(uint64_t offset, std::span<std::byte> dst) const override;

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  mutable uint64_t end_read_ = 0;  // one past the last byte asked for
};

// For one-line messages: control characters and broken UTF-8 as \xNN, cut after 200 bytes.
std::string printable(std::string_view text);
bool is_utf8(std::string_view text);

}  // namespace hob
