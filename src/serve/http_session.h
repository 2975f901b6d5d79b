#pragma once
// One connection. Boost's headers cost 25 s per translation unit: only http_server.cc includes
// this. Everything here runs on the io thread unless it says otherwise.
#include <utility>  // before Asio: its coroutine header forgets it
//
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "serve/completion_call.h"
#include "serve/http_wire.h"
#include "serve/limits.h"
#include "serve/router.h"
#include "serve/worker_threads.h"

namespace hob {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using TimePoint = std::chrono::steady_clock::time_point;

class AnySession {
 public:
  virtual ~AnySession() = default;
  virtual void close_socket() = 0;
  bool waiting_for_request() const { return waiting_; }
  TimePoint waiting_since() const { return since_; }

 protected:
  bool waiting_ = true;  // no complete request yet: may be closed when connections run out
  TimePoint since_ = std::chrono::steady_clock::now();
};

// What all sessions share.
struct SessionHost {
  ServeConfig config;
  HttpLimits limits;
  ServerState* state = nullptr;
  std::set<AnySession*> sessions;
  size_t bodies_bytes = 0;  // being received
  std::atomic<int> n_active{0}, n_connections{0};
  asio::io_context io{1};
  WorkerThreads workers{2};  // after io: joined first
};

// A request on its way to an answer: with a worker, or with its session.
struct AnswerWork {
  HttpRequest request;
  std::function<void()> wake;
  Routed routed;
  std::unique_ptr<CompletionCall> call;
  bool done = false;
};

template <class Stream>
class HttpSession : public AnySession, public std::enable_shared_from_this<HttpSession<Stream>> {
 public:
  HttpSession(SessionHost& host, Stream stream, std::string peer)
      : host_(&host),
        stream_(std::move(stream)),
        peer_(std::move(peer)),
        changed_(host.io),
        room_(host.io),
        write_timer_(host.io) {
    host_->sessions.insert(this);
    host_->n_connections++;
  }
  ~HttpSession() override {
    give_back_body();
    host_->sessions.erase(this);
    host_->n_connections--;
  }

  asio::awaitable<void> run() {
    const auto self = this->shared_from_this();
    try {
      if (co_await handshake()) {
        asio::co_spawn(
            host_->io, [self] { return self->read_loop(); }, asio::detached);
        while (co_await serve_one()) {
        }
      }
    } catch (const std::exception&) {
      // Out of memory, most likely: this connection ends, the others go on.
    }
    close_socket();
  }

  void close_socket() override {
    error_code ec;
    stream_.lowest_layer().close(ec);
    closed_ = true;
    room_.cancel();
    notify();
  }

 private:
  using Parser = http::request_parser<http::string_body>;
  static constexpr bool kTls = !std::is_same_v<Stream, tcp::socket>;
  static constexpr size_t kReadAhead = 64 << 10;  // more than a head, so that one always fits
  static_assert(kReadAhead > HttpLimits{}.max_header_bytes);

  // Reading never stops while there is room, so that a disconnect is noticed at once. A client that
  // closes only its sending half counts as gone too, once it waits for the engine.
  asio::awaitable<void> read_loop() {
    const auto self = this->shared_from_this();
    error_code ec;
    std::array<char, 8 << 10> bytes;
    while (!closed_) {
      if (inbox_.size() >= kReadAhead) {
        room_.expires_at(TimePoint::max());
        co_await room_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
        continue;
      }
      const size_t n = co_await stream_.async_read_some(
          asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, ec));
      if (ec) break;
      const auto room = inbox_.prepare(n);
      asio::buffer_copy(room, asio::buffer(bytes, n));
      inbox_.commit(n);
      n_received_ += n;
      notify();
    }
    eof_ = true;
    if (call_) close_socket();  // a write may be stuck
    notify();
  }

  void notify() { changed_.cancel(); }
  // False when the time is over.
  asio::awaitable<bool> wait(TimePoint until) {
    error_code ec;
    changed_.expires_at(until);
    co_await changed_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    co_return ec == asio::error::operation_aborted;
  }
  static TimePoint after(HttpLimits::Duration time) {
    return std::chrono::steady_clock::now() + time;
  }

  enum class Input { kMore, kEnd, kTimeout };
  asio::awaitable<Input> more_input(TimePoint deadline) {
    const uint64_t before = n_received_;
    while (n_received_ == before && !eof_ && !closed_) {
      const bool in_time = co_await wait(deadline);
      if (!in_time && n_received_ == before) co_return Input::kTimeout;
    }
    co_return n_received_ != before && !closed_ ? Input::kMore : Input::kEnd;
  }

  asio::awaitable<bool> handshake() {
    error_code ec;
    if constexpr (kTls) {
      guard_write(host_->limits.handshake_time);
      co_await stream_.async_handshake(asio::ssl::stream_base::server,
                                       asio::redirect_error(asio::use_awaitable, ec));
      write_timer_.cancel();
    }
    co_return !ec;
  }

  // Closes the socket unless write_timer_ is cancelled in time.
  void guard_write(HttpLimits::Duration time) {
    write_timer_.expires_after(time);
    write_timer_.async_wait([weak = this->weak_from_this()](error_code ec) {
      if (const auto self = weak.lock(); self && !ec) self->close_socket();
    });
  }

  asio::awaitable<bool> write(std::string bytes) {
    constexpr size_t kSlice = 64 << 10;  // the time limit is for progress, not for the whole
    error_code ec;
    for (size_t i = 0; i < bytes.size() && !ec; i += kSlice) {
      guard_write(host_->limits.write_time);
      co_await asio::async_write(stream_,
                                 asio::buffer(bytes.data() + i, std::min(kSlice, bytes.size() - i)),
                                 asio::redirect_error(asio::use_awaitable, ec));
    }
    write_timer_.cancel();
    co_return !ec && !closed_;
  }

  // Reads one request and answers it. False = the connection is over.
  asio::awaitable<bool> serve_one();
  asio::awaitable<bool> read_head(Parser& parser);
  asio::awaitable<bool> read_body(Parser& parser);
  asio::awaitable<bool> refuse(ApiError error);
  asio::awaitable<void> linger();
  asio::awaitable<bool> answer(HttpRequest request, WireOptions wire);
  asio::awaitable<bool> run_call(HeaderList headers, WireOptions wire);
  asio::awaitable<bool> stream_call(HttpReply head, WireOptions wire);
  asio::awaitable<bool> send(HttpReply reply, HeaderList headers, WireOptions wire);

  bool take_body_room(size_t n_bytes);
  void give_back_body() { host_->bodies_bytes -= std::exchange(body_bytes_, 0); }
  std::function<void()> waker();

  SessionHost* host_;
  Stream stream_;
  std::string peer_;
  asio::steady_timer changed_, room_, write_timer_;
  boost::beast::flat_buffer inbox_;  // received, not yet parsed
  uint64_t n_received_ = 0;
  bool eof_ = false, closed_ = false;
  size_t body_bytes_ = 0;  // ours of host_->bodies_bytes
  std::unique_ptr<CompletionCall> call_;
};

}  // namespace hob
