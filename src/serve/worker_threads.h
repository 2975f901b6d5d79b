#pragma once
// Threads for what may take long and must not hold up the io thread. Not asio::thread_pool: that
// one waits for ever when the system refuses its second thread (Boost 1.74).
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <thread>
#include <vector>

#include "base/thread.h"

namespace hob {

class WorkerThreads {
 public:
  explicit WorkerThreads(int n) : io_(n), guard_(boost::asio::make_work_guard(io_)) {
    try {
      for (int i = 0; i < n; i++)
        threads_.push_back(start_thread("HTTP workers", [this] { io_.run(); }));
    } catch (...) {
      join();
      throw;
    }
  }
  // What has not begun is dropped.
  ~WorkerThreads() {
    io_.stop();
    join();
  }

  template <class Work>
  void post(Work&& work) {
    boost::asio::post(io_, std::forward<Work>(work));
  }
  // Ends when all that was posted has run.
  void join() {
    guard_.reset();
    for (std::thread& t : threads_)
      if (t.joinable()) t.join();
  }

 private:
  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::vector<std::thread> threads_;
};

}  // namespace hob
