#pragma once
// HTTP/1.x as bytes: heads, chunks, targets, dates.
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include "serve/http_types.h"

namespace hob {

std::string_view status_text(int status);

struct WireOptions {
  int version = 11;
  bool keep_alive = true;
  bool head_only = false;  // answer to HEAD: the length, not the body
};
// The whole reply.
std::string render_reply(const HttpReply& reply, const WireOptions& options);
// Head of a stream: chunked in HTTP/1.1; in HTTP/1.0 it ends with the connection.
std::string render_stream_head(const HttpReply& head, const WireOptions& options);
std::string render_chunk(std::string_view bytes, const WireOptions& options);
std::string render_last_chunk(const WireOptions& options);

// "Sun, 06 Nov 1994 08:49:37 GMT"
std::string http_date(std::time_t seconds);

// "/a%20b?c" -> "/a b"; absolute-form ("http://host/path") gives its path. nullopt: no valid
// target.
std::optional<std::string> target_path(std::string_view target);

// The name of a Host header or an authority without its port: "[::1]:80" -> "::1". nullopt when
// malformed.
std::optional<std::string> host_name(std::string_view authority);

}  // namespace hob
