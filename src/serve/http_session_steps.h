#pragma once
// The steps of HttpSession: read a request, find its answer, write it.
#include <fmt/format.h>

#include "serve/http_session.h"

namespace hob {

// What a client is told about a request that the parser refused.
inline ApiError parse_error(error_code ec, const HttpLimits& limits) {
  if (ec == http::error::header_limit)
    return ApiError(431, fmt::format("expected a request head of at most {} bytes, got more",
                                     limits.max_header_bytes));
  if (ec == http::error::body_limit)
    return ApiError(
        413, fmt::format("expected a body of at most {} bytes, got more", limits.max_body_bytes));
  if (ec == http::error::bad_version)
    return ApiError(505, "expected HTTP/1.0 or HTTP/1.1, got another version");
  return ApiError(400, "expected an HTTP request, got something malformed: " + ec.message());
}

template <class Stream>
bool HttpSession<Stream>::take_body_room(size_t n_bytes) {
  if (n_bytes <= body_bytes_) return true;
  const size_t more = n_bytes - body_bytes_;
  if (host_->bodies_bytes + more > host_->limits.max_bodies_bytes) return false;
  host_->bodies_bytes += more;
  body_bytes_ += more;
  return true;
}

// Called from the engine thread: only posts.
template <class Stream>
std::function<void()> HttpSession<Stream>::waker() {
  return [weak = this->weak_from_this(), &io = host_->io] {
    asio::post(io, [weak] {
      const auto self = weak.lock();
      if (!self) return;
      if (self->call_ && self->call_->overflowed()) self->close_socket();  // it is stuck in a write
      self->notify();
    });
  };
}

template <class Stream>
asio::awaitable<void> HttpSession<Stream>::linger() {
  // Closing with unread input would reset the connection, and the client would never see the reply.
  constexpr std::chrono::seconds kLinger{2};
  error_code ec;
  stream_.lowest_layer().shutdown(tcp::socket::shutdown_send, ec);
  const TimePoint deadline = after(kLinger);
  while (!eof_ && !closed_) {
    inbox_.consume(inbox_.size());
    room_.cancel();
    const bool in_time = co_await wait(deadline);
    if (!in_time) break;
  }
}

template <class Stream>
asio::awaitable<bool> HttpSession<Stream>::refuse(ApiError error) {
  host_->state->metrics().replied(error.status);
  WireOptions wire;
  wire.keep_alive = false;
  const HttpReply reply = error_reply(error, ErrorShape::kOpenAi);
  const bool written = co_await write(render_reply(reply, wire));
  if (written) co_await linger();
  co_return false;
}

template <class Stream>
asio::awaitable<bool> HttpSession<Stream>::read_head(Parser& parser) {
  TimePoint deadline =
      after(n_received_ == 0 ? host_->limits.header_time : host_->limits.idle_time);
  if (inbox_.size() == 0) {
    const Input input = co_await more_input(deadline);
    if (input != Input::kMore) co_return false;  // nobody asked anything
  }
  deadline = after(host_->limits.header_time);
  size_t n_head = 0;
  while (true) {
    error_code ec;
    const size_t n = parser.put(inbox_.data(), ec);
    inbox_.consume(n);
    room_.cancel();
    n_head += n;
    // The parser's own limit is for what it takes in one piece.
    if (n_head > host_->limits.max_header_bytes) ec = http::error::header_limit;
    if (parser.is_header_done() && !ec) co_return true;
    if (ec && ec != http::error::need_more) {
      const bool again = co_await refuse(parse_error(ec, host_->limits));
      co_return again;
    }
    const Input input = co_await more_input(deadline);
    if (input == Input::kEnd) co_return false;
    if (input == Input::kTimeout) {
      const bool again = co_await refuse(ApiError(408, "the request's head took too long"));
      co_return again;
    }
  }
}

template <class Stream>
asio::awaitable<bool> HttpSession<Stream>::read_body(Parser& parser) {
  const TimePoint deadline = after(host_->limits.body_time);
  parser.eager(true);
  const bool expects =
      same_ignoring_case(std::string_view(parser.get()[http::field::expect].data(),
                                          parser.get()[http::field::expect].size()),
                         "100-continue");
  if (expects && !parser.is_done() && inbox_.size() == 0) {
    const bool written = co_await write("HTTP/1.1 100 Continue\r\n\r\n");
    if (!written) co_return false;
  }
  while (!parser.is_done()) {
    error_code ec;
    if (inbox_.size() > 0) {
      const size_t n = parser.put(inbox_.data(), ec);
      inbox_.consume(n);
      room_.cancel();
    }
    if (ec && ec != http::error::need_more) {
      const bool again = co_await refuse(parse_error(ec, host_->limits));
      co_return again;
    }
    if (!take_body_room(parser.get().body().size())) {
      ApiError full(503, "too many large requests at once", "", "overloaded");
      full.retry_after_s = 1;
      const bool again = co_await refuse(full);
      co_return again;
    }
    if (parser.is_done()) break;
    if (inbox_.size() > 0 && !ec) continue;
    const Input input = co_await more_input(deadline);
    if (input == Input::kEnd) co_return false;
    if (input == Input::kTimeout) {
      const bool again = co_await refuse(ApiError(408, "the request's body took too long"));
      co_return again;
    }
  }
  co_return true;
}

inline HttpRequest plain_request(http::request<http::string_body>& message) {
  const auto text = [](boost::beast::string_view s) { return std::string(s.data(), s.size()); };
  HttpRequest request;
  request.method = text(message.method_string());
  request.target = text(message.target());
  request.version = static_cast<int>(message.version());
  for (const auto& field : message)
    request.headers.emplace_back(text(field.name_string()), text(field.value()));
  request.body = std::move(message.body());
  return request;
}

template <class Stream>
asio::awaitable<bool> HttpSession<Stream>::serve_one() {
  waiting_ = true;
  since_ = std::chrono::steady_clock::now();
  Parser parser;
  parser.header_limit(static_cast<uint32_t>(host_->limits.max_header_bytes));
  parser.body_limit(host_->limits.max_body_bytes);
  bool ok = co_await read_head(parser);
  if (!ok) co_return false;
  const auto expect = parser.get()[http::field::expect];
  if (!expect.empty() &&
      !same_ignoring_case(std::string_view(expect.data(), expect.size()), "100-continue")) {
    const bool again = co_await refuse(ApiError(417, "Expect: expected 100-continue"));
    co_return again;
  }
  ok = co_await read_body(parser);
  if (!ok) co_return false;
  waiting_ = false;
  WireOptions wire;
  wire.keep_alive = parser.get().keep_alive();
  HttpRequest request = plain_request(parser.get());
  request.peer = peer_;
  request.tls = kTls;
  wire.version = request.version;
  wire.head_only = request.method == "HEAD";
  host_->n_active++;
  const bool again = co_await answer(std::move(request), wire);
  call_.reset();
  give_back_body();
  host_->n_active--;
  co_return again&& wire.keep_alive;
}

template <class Stream>
asio::awaitable<bool> HttpSession<Stream>::send(HttpReply reply, HeaderList headers,
                                                WireOptions wire) {
  host_->state->metrics().replied(reply.status);
  std::move(headers.begin(), headers.end(), std::back_inserter(reply.headers));
  const bool written = co_await write(render_reply(reply, wire));
  if (written && !wire.keep_alive) co_await linger();
  co_return written;
}

// On a worker or on the io thread.
inline void find_answer(SessionHost& host, AnswerWork& work) {
  ServerState& state = *host.state;
  work.routed = route({&host.config, &state}, work.request);
  auto* job = std::get_if<CompletionJob>(&work.routed.answer);
  if (!job) return;
  const ErrorShape shape = job->reply->error_shape();
  try {
    const auto model = state.model();
    work.call = std::make_unique<CompletionCall>(
        *model->service, state.metrics(), std::move(*job),
        CallOptions{.id = fmt::format("{}/{}", state.next_id(), work.request.id),
                    .tenant = work.request.tenant,
                    .max_buffered_bytes = host.limits.max_buffered_bytes,
                    .deadline_s = host.config.request_timeout_s},
        work.wake);
  } catch (...) {
    work.routed.answer = error_reply(as_api_error(std::current_exception()), shape);
  }
}

template <class Stream>
asio::awaitable<bool> HttpSession<Stream>::answer(HttpRequest request, WireOptions wire) {
  auto work = std::make_shared<AnswerWork>();
  work->request = std::move(request);
  work->wake = waker();
  if (!is_slow(work->request)) {
    find_answer(*host_, *work);
  } else {
    // What keeps this session alive goes back with the result: it must not end on a worker's
    // thread.
    host_->workers.post([self = this->shared_from_this(), work]() mutable {
      SessionHost& host = *self->host_;
      find_answer(host, *work);
      asio::post(host.io, [self = std::move(self), work = std::move(work)] {
        work->done = true;
        self->notify();
      });
    });
    while (!work->done) co_await wait(TimePoint::max());
  }
  if (host_->state->draining()) wire.keep_alive = false;
  bool again = false;
  if (work->call) {
    call_ = std::move(work->call);
    again = co_await run_call(std::move(work->routed.headers), wire);
  } else {
    again = co_await send(std::get<HttpReply>(std::move(work->routed.answer)),
                          std::move(work->routed.headers), wire);
  }
  co_return again;
}

template <class Stream>
asio::awaitable<bool> HttpSession<Stream>::run_call(HeaderList headers, WireOptions wire) {
  ReplyBuilder& reply = call_->reply();
  // The head of a stream waits for the first news or the first ping: until then a failure can still
  // have a status of its own.
  const TimePoint first_ping = after(host_->limits.ping_interval);
  const bool pings = reply.streams() && !reply.ping().empty();
  while (true) {
    call_->pump();
    if (eof_ || closed_) co_return false;
    if (call_->ended()) break;
    if (reply.streams() && reply.has_output()) break;
    const bool in_time = co_await wait(pings ? first_ping : TimePoint::max());
    if (!in_time) break;
  }
  bool again = false;
  if (call_->error() && (!reply.streams() || !reply.begun())) {
    again =
        co_await send(error_reply(*call_->error(), reply.error_shape()), std::move(headers), wire);
  } else if (!reply.streams()) {
    again = co_await send(reply.reply(), std::move(headers), wire);
  } else {
    HttpReply head = reply.reply();
    std::move(headers.begin(), headers.end(), std::back_inserter(head.headers));
    again = co_await stream_call(std::move(head), wire);
  }
  co_return again;
}

template <class Stream>
asio::awaitable<bool> HttpSession<Stream>::stream_call(HttpReply head, WireOptions wire) {
  ReplyBuilder& reply = call_->reply();
  host_->state->metrics().replied(head.status);
  if (wire.version < 11) wire.keep_alive = false;  // its end is the connection's end
  std::string bytes = render_stream_head(head, wire);
  bool due = true;  // the first time: the head, and a ping when that is why we are here
  while (true) {
    const bool ended = call_->ended();
    std::string output = reply.take_output();
    if (output.empty() && due && !ended) output = reply.ping();
    bytes += render_chunk(output, wire);
    if (ended) bytes += render_last_chunk(wire);
    if (!bytes.empty()) {
      const bool written = co_await write(std::exchange(bytes, {}));
      if (!written) co_return false;
    }
    if (ended) break;
    const TimePoint next_ping =
        reply.ping().empty() ? TimePoint::max() : after(host_->limits.ping_interval);
    due = false;
    while (true) {
      call_->pump();
      if (eof_ || closed_) co_return false;
      if (call_->ended() || reply.has_output()) break;
      const bool in_time = co_await wait(next_ping);
      if (in_time) continue;
      due = true;
      break;
    }
  }
  if (!wire.keep_alive) co_await linger();
  co_return true;
}

}  // namespace hob
