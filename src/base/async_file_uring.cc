// AsyncReader on io_uring. One ring, one owner thread; wake() goes through an eventfd that the ring
// itself reads, so that the owner sleeps in one place for completions and for new work.
#include "base/async_file.h"
#include "base/error.h"

#ifdef HOB_HAVE_URING
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace hob {
namespace {

constexpr uint64_t kWakeData =
    ~uint64_t{0};  // user_data of the eventfd's read; others are indices into reads_

class UringReader final : public AsyncReader {
 public:
  // Takes over an initialised ring.
  UringReader(FileSet&& files, const io_uring& ring, int event_fd, int depth)
      : files_(std::move(files)),
        ring_(ring),
        event_fd_(event_fd),
        reads_(static_cast<size_t>(depth)) {
    for (int i = depth - 1; i >= 0; i--) free_.push_back(static_cast<size_t>(i));
    queue_wake_read();
    flush();
  }

  ~UringReader() override {
    while (free_.size() < reads_.size()) wait();
    io_uring_queue_exit(&ring_);
    close(event_fd_);
  }

  std::string_view name() const override { return "io_uring"; }
  bool direct(int file) const override { return files_[static_cast<size_t>(file)]->direct(); }

  void submit(std::span<const ReadOp> ops) override {
    for (const ReadOp& op : ops) {
      HOB_CHECK(!free_.empty());
      const size_t index = free_.back();
      free_.pop_back();
      reads_[index] = ReadProgress{.op = op, .n_done = 0, .n_retries = 0, .error = nullptr};
      queue_read(index);
    }
    flush();
  }

  std::vector<ReadDone> wait() override {
    std::vector<ReadDone> done;
    bool woken = false;
    while (done.empty() && !woken) {
      io_uring_cqe* cqe = nullptr;
      const int rc = io_uring_wait_cqe(&ring_, &cqe);
      if (rc == -EINTR || rc == -EAGAIN) continue;
      HOB_CHECK(rc == 0);
      do {
        if (io_uring_cqe_get_data64(cqe) == kWakeData) {
          woken = true;
          queue_wake_read();
        } else {
          finish(io_uring_cqe_get_data64(cqe), cqe->res, done);
        }
        io_uring_cqe_seen(&ring_, cqe);
      } while (io_uring_peek_cqe(&ring_, &cqe) == 0);
      flush();
    }
    return done;
  }

  void wake() override {
    const uint64_t one = 1;
    while (write(event_fd_, &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

 private:
  // The submission queue holds depth + 1 entries, and no more are ever queued between two flushes.
  io_uring_sqe* next_entry() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    HOB_CHECK(sqe != nullptr);
    return sqe;
  }

  void queue_read(size_t index) {
    const ReadProgress& read = reads_[index];
    io_uring_sqe* sqe = next_entry();
    io_uring_prep_read(sqe, files_[static_cast<size_t>(read.op.file)]->fd(), read.dst(),
                       static_cast<unsigned>(read.n_left()), read.offset());
    io_uring_sqe_set_data64(sqe, index);
  }

  void queue_wake_read() {
    io_uring_sqe* sqe = next_entry();
    io_uring_prep_read(sqe, event_fd_, &event_value_, sizeof event_value_, 0);
    io_uring_sqe_set_data64(sqe, kWakeData);
  }

  void flush() {
    while (io_uring_sq_ready(&ring_) > 0) {
      const int rc = io_uring_submit(&ring_);
      // EAGAIN, EBUSY: the kernel is short of memory or completions wait to be taken; both pass.
      HOB_CHECK(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
    }
  }

  void finish(size_t index, int result, std::vector<ReadDone>& done) {
    ReadProgress& read = reads_[index];
    if (read.advance(result, *files_[static_cast<size_t>(read.op.file)]) ==
        ReadProgress::Next::kReadAgain) {
      queue_read(index);
      return;
    }
    done.push_back({read.op.tag, std::exchange(read.error, nullptr)});
    free_.push_back(index);
  }

  FileSet files_;
  io_uring ring_;
  int event_fd_;
  uint64_t event_value_ = 0;
  std::vector<ReadProgress> reads_;  // [depth]
  std::vector<size_t> free_;         // indices into reads_
};

bool ring_can_read(io_uring& ring) {
  io_uring_probe* probe = io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return false;
  const bool can = io_uring_opcode_supported(probe, IORING_OP_READ) != 0;  // since Linux 5.6
  io_uring_free_probe(probe);
  return can;
}

}  // namespace

std::unique_ptr<AsyncReader> make_uring_reader(FileSet&& files, int depth) {
  io_uring ring;
  if (io_uring_queue_init(static_cast<unsigned>(depth) + 1, &ring, 0) != 0) return nullptr;
  const int event_fd = ring_can_read(ring) ? eventfd(0, EFD_CLOEXEC) : -1;
  if (event_fd < 0) {
    io_uring_queue_exit(&ring);
    return nullptr;
  }
  return std::make_unique<UringReader>(std::move(files), ring, event_fd, depth);
}

}  // namespace hob

#else

namespace hob {
std::unique_ptr<AsyncReader> make_uring_reader(FileSet&&, int) { return nullptr; }
}  // namespace hob

#endif
