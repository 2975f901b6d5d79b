#pragma once
#include <poll.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "wanrelay/fd.h"

namespace hob::wan {

// A Unix stream socket on which clients send commands, a line each, and get a line for each. Never
// blocks; a client that does not read its replies is dropped. The path goes when it does.
class ControlSocket {
 public:
  using Execute = std::function<std::string(std::string_view line)>;

  explicit ControlSocket(const std::string& path);
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

  // Adds what to wait for.
  void wait_for(std::vector<pollfd>& fds) const;
  // Serves whoever has sent something.
  void serve(const Execute& execute);

 private:
  struct Client {
    Fd fd;
    std::string input;
  };
  // False when the client is to be forgotten.
  bool serve(Client& client, const Execute& execute);
  static bool answer_lines(Client& client, const Execute& execute);

  std::string path_;
  Fd listener_;
  std::vector<Client> clients_;
};

// The client's side: one command, its reply without the line's end.
std::string send_command(const std::string& path, const std::string& command);

}  // namespace hob::wan
