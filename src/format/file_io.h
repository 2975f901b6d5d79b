#pragma once
// Positional writes with errors as hob::Error.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace hob {

// An open file. Thread-safe.
class OutputFd {
 public:
  // `flags` as for open(2); O_CLOEXEC is added. Throws Error(kIo).
  OutputFd(std::string path, int flags);
  ~OutputFd();
  OutputFd(const OutputFd&) = delete;
  OutputFd& operator=(const OutputFd&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const;
  // Sets O_DIRECT if the file system takes it: whole pages to and from aligned memory from then on.
  // One that takes the flag and refuses the reads and writes falls back by itself.
  void try_direct();
  void drop_direct() const;
  // False when somebody else holds it.
  bool try_lock() const;
  // Is it (still) what `path` names?
  bool is_named_path() const;

  // A full disk (or a quota, or a file size limit) is Error(kResourceExhausted), all else kIo.
  void write_at(uint64_t offset, std::span<const std::byte> bytes) const;
  // Reserves the blocks of the first n_bytes, or only sets the size where the file system cannot.
  void reserve(uint64_t n_bytes) const;
  // Bytes read: less than asked for only at the end of the file.
  size_t read_at(uint64_t offset, std::span<std::byte> dst) const;
  void truncate(uint64_t n_bytes) const;
  void sync() const;

 private:
  [[noreturn]] void fail_with_errno(const char* what) const;
  bool try_again() const;
  void leave_cache(uint64_t offset, size_t n_bytes) const;

  std::string path_;
  int fd_ = -1;
  mutable std::atomic<bool> direct_{false};
};

// Makes names in the folder of `path` durable. Some file systems refuse that; the data is safe then
// too.
void sync_folder_of(const std::string& path);

}  // namespace hob
