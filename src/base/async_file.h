#pragma once
// Asynchronous reads of whole files' parts into aligned memory, past the page cache where the file
// system allows it. Two implementations: io_uring, and a pool of pread threads for kernels and
// sandboxes without it.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hob {

// O_DIRECT wants offset, length and address in multiples of the logical block size: 512 or 4096 on
// every device.
inline constexpr size_t kIoAlign = 4096;

struct ReadOp {
  int file = 0;              // index into the reader's paths
  uint64_t offset = 0;       // multiple of kIoAlign
  size_t n_bytes = 0;        // multiple of kIoAlign; may reach past the end of the file
  size_t n_required = 0;     // the read succeeds when at least these arrived
  std::byte* dst = nullptr;  // multiple of kIoAlign
  uint64_t tag = 0;          // the caller's, returned with the completion
};

struct ReadDone {
  uint64_t tag = 0;
  std::exception_ptr
      error;  // hob::Error: kIo (the system refused) or kDataLoss (the file ends too early)
};

// One owner thread calls submit() and wait(); any thread may call wake(). The destructor waits for
// reads in flight, because the kernel writes to their buffers.
class AsyncReader {
 public:
  virtual ~AsyncReader() = default;
  virtual std::string_view name() const = 0;  // "io_uring" | "pread"
  // True when `file` is read past the page cache.
  virtual bool direct(int file) const = 0;
  // At most `depth` reads may be in flight (checked). Never throws: failures come as completions.
  virtual void submit(std::span<const ReadOp> ops) = 0;
  // Blocks until a read has completed or wake() was called since the last wait(); returns what has
  // completed.
  virtual std::vector<ReadDone> wait() = 0;
  virtual void wake() = 0;
};

struct AsyncReaderOptions {
  int depth = 8;          // most reads in flight
  bool direct_io = true;  // try O_DIRECT
  bool use_uring = true;  // try io_uring
};

// Opens the files: Error(kIo) naming the one that cannot be opened.
std::unique_ptr<AsyncReader> make_async_reader(const std::vector<std::string>& paths,
                                               const AsyncReaderOptions& options);

// --- parts that both implementations share; public for their tests ---

// A file open for positional reads. Thread-safe.
class DirectFile {
 public:
  DirectFile(std::string path, bool want_direct);
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  bool direct() const { return direct_.load(std::memory_order_relaxed); }
  // The file system took O_DIRECT at open() and refuses the reads themselves.
  void drop_direct();
  // Buffered reads would fill the page cache, which counts against a memory cgroup.
  void forget_cached(uint64_t offset, size_t n_bytes) const;

 private:
  std::string path_;
  int fd_ = -1;
  std::atomic<bool> direct_{false};
};

// One ReadOp until it is complete: short reads, interrupted reads, refused O_DIRECT.
struct ReadProgress {
  enum class Next { kReadAgain, kFinished };
  ReadOp op;
  size_t n_done = 0;
  int n_retries = 0;
  std::exception_ptr error;

  // `result`: what pread or the ring returned: bytes, or -errno.
  Next advance(int64_t result, DirectFile& file);
  std::byte* dst() const { return op.dst + n_done; }
  size_t n_left() const { return op.n_bytes - n_done; }
  uint64_t offset() const { return op.offset + n_done; }
};

using FileSet = std::vector<std::unique_ptr<DirectFile>>;
std::unique_ptr<AsyncReader> make_pread_reader(FileSet&& files, int depth);
// nullptr (and `files` untouched) when this build or this kernel has no io_uring, or a sandbox
// forbids it.
std::unique_ptr<AsyncReader> make_uring_reader(FileSet&& files, int depth);

}  // namespace hob
