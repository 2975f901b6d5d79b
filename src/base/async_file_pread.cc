// AsyncReader on plain threads: one blocking pread per thread, as many threads as reads in flight.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/async_file.h"
#include "base/bounded_queue.h"
#include "base/error.h"
#include "base/thread.h"

namespace hob {
namespace {

class PreadReader final : public AsyncReader {
 public:
  PreadReader(FileSet files, int depth)
      : files_(std::move(files)), depth_(depth), queue_(static_cast<size_t>(depth)) {
    try {
      for (int i = 0; i < depth; i++)
        threads_.push_back(start_thread("reading experts", [this] { serve(); }));
    } catch (...) {
      end_threads();
      throw;
    }
  }
  ~PreadReader() override { end_threads(); }

  std::string_view name() const override { return "pread"; }
  bool direct(int file) const override { return files_[static_cast<size_t>(file)]->direct(); }

  void submit(std::span<const ReadOp> ops) override {
    for (const ReadOp& op : ops) {
      HOB_CHECK(++n_in_flight_ <= depth_);
      queue_.push(ReadProgress{.op = op, .n_done = 0, .n_retries = 0, .error = nullptr});
    }
  }

  std::vector<ReadDone> wait() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return woken_ || !done_.empty(); });
    woken_ = false;
    std::vector<ReadDone> done;
    done.swap(done_);
    n_in_flight_ -= static_cast<int>(done.size());
    return done;
  }

  void wake() override {
    {
      std::lock_guard lock(mutex_);
      woken_ = true;
    }
    changed_.notify_one();
  }

 private:
  void serve() {
    sigset_t all;  // signals belong to the threads that expect them
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    while (std::optional<ReadProgress> read = queue_.pop()) {
      DirectFile& file = *files_[static_cast<size_t>(read->op.file)];
      int64_t result;
      do {
        result = pread(file.fd(), read->dst(), read->n_left(), static_cast<off_t>(read->offset()));
        if (result < 0) result = -errno;
      } while (read->advance(result, file) == ReadProgress::Next::kReadAgain);
      {
        std::lock_guard lock(mutex_);
        // Moved: the owner thread holds the only reference, and frees it.
        done_.push_back({read->op.tag, std::move(read->error)});
      }
      changed_.notify_one();
    }
  }

  void end_threads() {
    queue_.close();
    for (std::thread& t : threads_) t.join();
  }

  FileSet files_;
  const int depth_;
  int n_in_flight_ = 0;  // owner thread
  BoundedQueue<ReadProgress> queue_;
  std::mutex mutex_;  // guards done_, woken_
  std::condition_variable changed_;
  std::vector<ReadDone> done_;
  bool woken_ = false;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

}  // namespace

std::unique_ptr<AsyncReader> make_pread_reader(FileSet&& files, int depth) {
  return std::make_unique<PreadReader>(std::move(files), depth);
}

}  // namespace hob
