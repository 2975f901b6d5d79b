#include "unit/serve/raw_client_util.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace hob::testing_serve {

std::string RawReply::header(std::string name) const {
  std::transform(name.begin(), name.end(), name.begin(), ::tolower);
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

RawClient::RawClient(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    ADD_FAILURE() << "expected to connect to port " << port;
}

RawClient::RawClient(RawClient&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), inbox_(std::move(other.inbox_)) {}

RawClient& RawClient::operator=(RawClient&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(inbox_, other.inbox_);
  return *this;
}

RawClient::~RawClient() { close(); }

void RawClient::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

bool RawClient::send(const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::send(fd_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

void RawClient::finish_sending() { shutdown(fd_, SHUT_WR); }

void RawClient::shrink_receive_buffer() {
  const int n = 4096;
  setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &n, sizeof n);
}

bool RawClient::more(int timeout_ms) {
  pollfd p{fd_, POLLIN, 0};
  if (poll(&p, 1, timeout_ms) <= 0) return false;
  char bytes[65536];
  const ssize_t n = recv(fd_, bytes, sizeof bytes, 0);
  if (n <= 0) return false;
  inbox_.append(bytes, static_cast<size_t>(n));
  return true;
}

std::string RawClient::line(int timeout_ms) {
  size_t end;
  while ((end = inbox_.find("\r\n")) == std::string::npos)
    if (!more(timeout_ms)) return "";
  std::string out = inbox_.substr(0, end);
  inbox_.erase(0, end + 2);
  return out;
}

RawReply RawClient::read(int timeout_ms, bool head_only) {
  RawReply reply;
  const std::string status = line(timeout_ms);
  if (status.size() < 12) return reply;
  reply.status = std::stoi(status.substr(9, 3));
  for (std::string text = line(timeout_ms); !text.empty(); text = line(timeout_ms)) {
    const size_t colon = text.find(": ");
    std::string name = text.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), ::tolower);
    reply.headers[name] = text.substr(colon + 2);
  }
  if (head_only || reply.status == 204 || reply.status == 100) return reply;
  if (reply.header("transfer-encoding") == "chunked") {
    while (true) {
      const std::string size = line(timeout_ms);
      const size_t n = size.empty() ? 0 : std::stoul(size, nullptr, 16);
      reply.body += read_some(n, timeout_ms);
      line(timeout_ms);
      if (n == 0) break;
    }
  } else if (!reply.header("content-length").empty()) {
    reply.body = read_some(std::stoul(reply.header("content-length")), timeout_ms);
  } else {
    while (more(timeout_ms)) {
    }
    reply.body = std::exchange(inbox_, {});
  }
  return reply;
}

std::string RawClient::read_some(size_t n, int timeout_ms) {
  while (inbox_.size() < n && more(timeout_ms)) {
  }
  std::string out = inbox_.substr(0, n);
  inbox_.erase(0, out.size());
  return out;
}

bool RawClient::closed_by_server(int timeout_ms) {
  while (true) {
    pollfd p{fd_, POLLIN, 0};
    if (poll(&p, 1, timeout_ms) <= 0) return false;
    char bytes[65536];
    if (recv(fd_, bytes, sizeof bytes, 0) <= 0) return true;
  }
}

std::string post_text(const std::string& target, const std::string& body,
                      const std::string& headers) {
  return "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
         headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace hob::testing_serve
