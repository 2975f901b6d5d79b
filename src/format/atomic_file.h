#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace hob {

// A file that appears under its name only when it is complete: written beside it, synced, renamed.
// A crash or an error leaves the old file, if there was one, and never half a new one.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();  // removes what was written unless commit() succeeded
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  [[noreturn]] void fail_with_errno(const char* what) const;

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
};

}  // namespace hob
