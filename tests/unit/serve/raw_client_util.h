#pragma once
// A client that sends exactly the bytes it is told to.
#include <map>
#include <string>

namespace hob::testing_serve {

struct RawReply {
  int status = 0;                              // 0 = the connection ended before there was one
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
  std::string header(std::string name) const;
};

class RawClient {
 public:
  explicit RawClient(int port);
  ~RawClient();
  RawClient(RawClient&& other) noexcept;
  RawClient& operator=(RawClient&& other) noexcept;

  bool send(const std::string& bytes);  // false = the server has closed
  void finish_sending();                // half-close
  void close();
  // One reply; `head_only`: to a HEAD request.
  RawReply read(int timeout_ms = 10'000, bool head_only = false);
  RawReply ask(const std::string& bytes) {
    send(bytes);
    return read();
  }
  // Whatever comes within the time, until at least `n` bytes are there.
  std::string read_some(size_t n, int timeout_ms = 10'000);
  bool closed_by_server(int timeout_ms = 10'000);  // reads on until the end
  void shrink_receive_buffer();

 private:
  bool more(int timeout_ms);
  std::string line(int timeout_ms);

  int fd_ = -1;
  std::string inbox_;
};

// A POST with content type and length.
std::string post_text(const std::string& target, const std::string& body,
                      const std::string& headers = "");

}  // namespace hob::testing_serve
