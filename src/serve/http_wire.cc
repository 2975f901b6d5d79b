#include "serve/http_wire.h"

#include <fmt/format.h>

#include <array>

namespace hob {
namespace {

struct StatusName {
  int status;
  std::string_view name;
};
constexpr StatusName kStatusNames[] = {
    {100, "Continue"},
    {200, "OK"},
    {204, "No Content"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

std::string head(const HttpReply& reply, const WireOptions& options) {
  std::string out = fmt::format("HTTP/{}.{} {} {}\r\nServer: hob\r\nDate: {}\r\n",
                                options.version / 10, options.version % 10, reply.status,
                                status_text(reply.status), http_date(std::time(nullptr)));
  for (const auto& [name, value] : reply.headers) out += fmt::format("{}: {}\r\n", name, value);
  if (reply.status != 204) out += fmt::format("Content-Type: {}\r\n", reply.content_type);
  if (!options.keep_alive)
    out += "Connection: close\r\n";
  else if (options.version == 10)
    out += "Connection: keep-alive\r\n";
  return out;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace

std::string_view status_text(int status) {
  for (const StatusName& row : kStatusNames)
    if (row.status == status) return row.name;
  return "Unknown";
}

std::string render_reply(const HttpReply& reply, const WireOptions& options) {
  std::string out = head(reply, options);
  if (reply.status != 204) out += fmt::format("Content-Length: {}\r\n", reply.body.size());
  out += "\r\n";
  if (!options.head_only && reply.status != 204) out += reply.body;
  return out;
}

std::string render_stream_head(const HttpReply& reply, const WireOptions& options) {
  std::string out = head(reply, options);
  if (options.version >= 11) out += "Transfer-Encoding: chunked\r\n";
  return out + "\r\n";
}

std::string render_chunk(std::string_view bytes, const WireOptions& options) {
  if (bytes.empty()) return {};  // an empty chunk would end the stream
  if (options.version < 11) return std::string(bytes);
  return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
}

std::string render_last_chunk(const WireOptions& options) {
  return options.version >= 11 ? "0\r\n\r\n" : "";
}

std::string http_date(std::time_t seconds) {
  // Not strftime: its names depend on the locale.
  constexpr std::array<const char*, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm t{};
  gmtime_r(&seconds, &t);
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[static_cast<size_t>(t.tm_wday)],
                     t.tm_mday, kMonths[static_cast<size_t>(t.tm_mon)], t.tm_year + 1900, t.tm_hour,
                     t.tm_min, t.tm_sec);
}

std::optional<std::string> target_path(std::string_view target) {
  if (target == "*") return "*";
  if (const size_t scheme = target.find("://");
      scheme != std::string_view::npos && !target.starts_with('/')) {
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  if (!target.starts_with('/')) return std::nullopt;
  return percent_decoded(target.substr(0, target.find_first_of("?#")));
}

std::optional<std::string> host_name(std::string_view authority) {
  std::string_view name, port;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    name = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
  } else {
    const size_t colon = authority.find(':');
    name = authority.substr(0, colon);
    port = colon == std::string_view::npos ? "" : authority.substr(colon);
  }
  if (!port.empty() && port[0] != ':') return std::nullopt;
  if (name.empty() || port.size() > 6) return std::nullopt;
  for (char c : port.substr(port.empty() ? 0 : 1))
    if (c < '0' || c > '9') return std::nullopt;
  for (char c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) &&
        std::string_view("-._:%").find(c) == std::string_view::npos)
      return std::nullopt;
  return std::string(name);
}

}  // namespace hob
