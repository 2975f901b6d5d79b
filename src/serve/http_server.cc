// g++ 12 does not see that Asio's operators new and delete of a coroutine's frame belong together.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#include "serve/http_server.h"

#include "serve/http_session.h"
#include "serve/http_session_steps.h"

//
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <optional>
#include <thread>

#include "base/error.h"
#include "base/thread.h"

namespace hob {
namespace {

using TlsStream = asio::ssl::stream<tcp::socket>;

std::optional<asio::ssl::context> make_tls(const TlsFiles& files) {
  if (files.certificate.empty()) return std::nullopt;
  asio::ssl::context context(asio::ssl::context::tls_server);
  context.set_options(asio::ssl::context::no_sslv2 | asio::ssl::context::no_sslv3 |
                      asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  error_code ec;
  context.use_certificate_chain_file(files.certificate, ec);
  if (ec)
    fail(Code::kInvalidArgument, "[serve] {}: expected a certificate chain in PEM, {}",
         files.certificate, ec.message());
  context.use_private_key_file(files.key, asio::ssl::context::pem, ec);
  if (ec)
    fail(Code::kInvalidArgument,
         "[serve] {}: expected the private key of the certificate in PEM, {}", files.key,
         ec.message());
  return context;
}

tcp::acceptor listen_on(asio::io_context& io, const std::string& host, int port) {
  error_code ec;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(host, std::to_string(port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, ec);
  if (ec || found.empty())
    fail(Code::kInvalidArgument, "[serve] --host {}: expected an address or a known name, {}", host,
         ec.message());
  const tcp::endpoint endpoint = found.begin()->endpoint();
  tcp::acceptor acceptor(io);
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) fail(Code::kIo, "[serve] expected to listen on {} port {}, {}", host, port, ec.message());
  return acceptor;
}

}  // namespace

struct HttpServer::Impl {
  Impl(ServeConfig config, int port, const HttpLimits& limits, const TlsFiles& tls_files,
       ServerState& state)
      : tls(make_tls(tls_files)), acceptor(listen_on(host.io, config.host, port)), retry(host.io) {
    host.config = std::move(config);
    host.limits = limits;
    host.limits.max_body_bytes = host.config.max_body_bytes;
    host.state = &state;
  }

  // A connection that has not sent its request gives way to a new one: the oldest first.
  bool close_one_that_waits() {
    AnySession* oldest = nullptr;
    for (AnySession* session : host.sessions)
      if (session->waiting_for_request() &&
          (!oldest || session->waiting_since() < oldest->waiting_since()))
        oldest = session;
    if (oldest) oldest->close_socket();
    return oldest != nullptr;
  }

  template <class Stream>
  void begin_session(Stream stream, std::string peer) {
    auto session = std::make_shared<HttpSession<Stream>>(host, std::move(stream), std::move(peer));
    asio::co_spawn(
        host.io, [session] { return session->run(); }, asio::detached);
  }

  void take(tcp::socket socket) {
    error_code ec;
    socket.set_option(tcp::no_delay(true), ec);  // tokens are small packets
    const tcp::endpoint peer = socket.remote_endpoint(ec);
    if (ec) return;  // gone already
    if (tls)
      begin_session(TlsStream(std::move(socket), *tls), peer.address().to_string());
    else
      begin_session(std::move(socket), peer.address().to_string());
  }

  asio::awaitable<void> accept_loop() {
    constexpr std::chrono::milliseconds kRetry{20};
    error_code ec;
    while (acceptor.is_open()) {
      if (static_cast<int>(host.sessions.size()) >= host.limits.max_connections)
        close_one_that_waits();
      tcp::socket socket(host.io);
      co_await acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, ec));
      if (ec == asio::error::operation_aborted || !acceptor.is_open()) break;
      const bool full = static_cast<int>(host.sessions.size()) >= host.limits.max_connections;
      if (!ec && !(full && !close_one_that_waits())) {
        take(std::move(socket));
        continue;
      }
      // Out of file descriptors, or everyone is busy: not in a tight loop.
      if (ec) close_one_that_waits();
      retry.expires_after(kRetry);
      co_await retry.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    }
  }

  std::optional<asio::ssl::context> tls;
  SessionHost host;
  tcp::acceptor acceptor;
  asio::steady_timer retry;
  std::thread thread;
};

HttpServer::HttpServer(ServeConfig config, int port, const HttpLimits& limits, const TlsFiles& tls,
                       ServerState& state)
    : impl_(std::make_unique<Impl>(std::move(config), port, limits, tls, state)) {}

HttpServer::~HttpServer() { stop(); }

void HttpServer::start() {
  Impl* impl = impl_.get();
  asio::co_spawn(
      impl->host.io, [impl] { return impl->accept_loop(); }, asio::detached);
  impl->thread = start_thread("HTTP", [impl] { impl->host.io.run(); });
}

void HttpServer::stop() {
  Impl& impl = *impl_;
  if (!impl.thread.joinable()) return;
  asio::post(impl.host.io, [&impl] {
    error_code ec;
    impl.acceptor.close(ec);
    impl.retry.cancel();
    const std::set<AnySession*> sessions = impl.host.sessions;
    for (AnySession* session : sessions) session->close_socket();
  });
  // Workers may still hold sessions: they hand them back to the io thread, which ends when the last
  // has closed.
  impl.host.workers.join();
  impl.thread.join();
}

int HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }
int HttpServer::n_active() const { return impl_->host.n_active; }
int HttpServer::n_connections() const { return impl_->host.n_connections; }

}  // namespace hob
