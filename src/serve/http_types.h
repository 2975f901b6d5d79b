#pragma once
// HTTP as plain data: what handlers see. No sockets, no library types.
#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hob {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

inline bool same_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

// nullptr when missing. Of repeated headers the first.
inline const std::string* find_header(const HeaderList& headers, std::string_view name) {
  for (const auto& [key, value] : headers)
    if (same_ignoring_case(key, name)) return &value;
  return nullptr;
}

struct HttpRequest {
  std::string method;  // "GET"
  std::string target;  // as sent: path and query
  int version = 11;    // 10 or 11
  HeaderList headers;
  std::string body;
  std::string peer;  // address of the other side
  bool tls = false;

  // Filled in by the router.
  std::string path;    // percent-decoded, without the query
  std::string param;   // what the route's last segment {x} stands for
  std::string id;      // X-Request-Id of the client, or a new one
  std::string tenant;  // who shares an API key; empty without keys

  const std::string* header(std::string_view name) const { return find_header(headers, name); }
};

struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HeaderList headers;
};

}  // namespace hob
