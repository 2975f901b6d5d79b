#include "wanrelay/control_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace hob::wan {
namespace {

constexpr size_t kMaxClients = 16;
constexpr size_t kMaxLine = 1024;  // commands are short: more is no command

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path))
    fail(Code::kInvalidArgument, "[control] expected a path of 1 to {} bytes, '{}' has {}",
         sizeof(address.sun_path) - 1, path, path.size());
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// bind() and connect() take their addresses untyped.
template <class Call>
bool with_address(Call call, const Fd& fd, const sockaddr_un& address) {
  return call(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

Fd unix_socket(int flags) {
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd.is_open()) fail(Code::kIo, "[control] expected a Unix socket, {}", strerror(errno));
  return fd;
}

// Left behind by a relay that was killed.
bool is_stale(const std::string& path, const sockaddr_un& address) {
  struct stat facts;
  if (lstat(path.c_str(), &facts) != 0 || !S_ISSOCK(facts.st_mode)) return false;
  const Fd probe = unix_socket(0);
  return !with_address(connect, probe, address) && errno == ECONNREFUSED;
}

}  // namespace

ControlSocket::ControlSocket(const std::string& path)
    : path_(path), listener_(unix_socket(SOCK_NONBLOCK)) {
  const sockaddr_un address = address_of(path);
  bool bound = with_address(bind, listener_, address);
  if (!bound && errno == EADDRINUSE) {
    if (!is_stale(path, address))
      fail(Code::kIo, "[control] {}: expected a free path, something is there", path);
    unlink(path.c_str());
    bound = with_address(bind, listener_, address);
  }
  if (!bound || listen(listener_.get(), kMaxClients) != 0)
    fail(Code::kIo, "[control] {}: expected to listen there, {}", path, strerror(errno));
}

ControlSocket::~ControlSocket() { unlink(path_.c_str()); }

void ControlSocket::wait_for(std::vector<pollfd>& fds) const {
  fds.push_back({listener_.get(), POLLIN, 0});
  for (const Client& client : clients_) fds.push_back({client.fd.get(), POLLIN, 0});
}

void ControlSocket::serve(const Execute& execute) {
  for (;;) {
    Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.is_open()) break;
    if (clients_.size() < kMaxClients) clients_.push_back({std::move(fd), ""});
  }
  std::erase_if(clients_, [&](Client& client) { return !serve(client, execute); });
}

bool ControlSocket::serve(Client& client, const Execute& execute) {
  char buffer[kMaxLine];
  const ssize_t n = recv(client.fd.get(), buffer, sizeof(buffer), 0);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  client.input.append(buffer, static_cast<size_t>(n));
  if (n == 0 && !client.input.empty()) client.input += '\n';  // the last line needs no end
  return answer_lines(client, execute) && n > 0 && client.input.size() <= kMaxLine;
}

bool ControlSocket::answer_lines(Client& client, const Execute& execute) {
  for (size_t end; (end = client.input.find('\n')) != std::string::npos;) {
    const std::string reply = execute(std::string_view(client.input).substr(0, end)) + "\n";
    client.input.erase(0, end + 1);
    const ssize_t n = send(client.fd.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
    if (n != static_cast<ssize_t>(reply.size())) return false;
  }
  return true;
}

std::string send_command(const std::string& path, const std::string& command) {
  const sockaddr_un address = address_of(path);
  const Fd fd = unix_socket(0);
  if (!with_address(connect, fd, address))
    fail(Code::kIo, "[control] {}: expected a relay that listens there, {}", path, strerror(errno));
  const std::string line = command + "\n";
  if (send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
    fail(Code::kIo, "[control] {}: expected to send a command, {}", path, strerror(errno));
  shutdown(fd.get(), SHUT_WR);
  std::string reply;
  char buffer[4096];
  for (ssize_t n; (n = recv(fd.get(), buffer, sizeof(buffer), 0)) != 0;) {
    if (n < 0) fail(Code::kIo, "[control] {}: expected a reply, {}", path, strerror(errno));
    reply.append(buffer, static_cast<size_t>(n));
  }
  if (!reply.ends_with('\n'))
    fail(Code::kIo, "[control] {}: expected a line as reply, the relay closed", path);
  reply.pop_back();
  return reply;
}

}  // namespace hob::wan
