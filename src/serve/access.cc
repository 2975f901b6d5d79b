#include "serve/access.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>

#include "serve/api_error.h"
#include "serve/http_wire.h"
#include "serve/json_body.h"

namespace hob {
namespace {

bool is_address(const std::string& name) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, name.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

bool is_ours(const std::string& name, const ServeConfig& config) {
  if (is_address(name) || same_ignoring_case(name, "localhost")) return true;
  if (same_ignoring_case(name, config.host)) return true;
  return std::any_of(
      config.allow_hosts.begin(), config.allow_hosts.end(),
      [&](const std::string& host) { return host == "*" || same_ignoring_case(host, name); });
}

bool allowed_by_cors(const std::string& origin, const ServeConfig& config) {
  return !config.cors_origin.empty() &&
         (config.cors_origin == "*" || same_ignoring_case(config.cors_origin, origin));
}

// "http://host:port" against the Host header, which check_host() has accepted.
bool is_own_origin(const HttpRequest& request, const std::string& origin) {
  const size_t scheme = origin.find("://");
  const std::string* host = request.header("Host");
  return scheme != std::string::npos && host &&
         same_ignoring_case(origin.substr(scheme + 3), *host);
}

}  // namespace

void check_host(const HttpRequest& request, const ServeConfig& config) {
  const auto is_host = [](const auto& header) { return same_ignoring_case(header.first, "Host"); };
  const auto n = std::count_if(request.headers.begin(), request.headers.end(), is_host);
  if (n == 0 && request.version < 11) return;
  if (n != 1) throw ApiError(400, fmt::format("expected one Host header, got {}", n));
  const std::string& value = *request.header("Host");
  const auto name = host_name(value);
  if (!name) throw ApiError(400, "Host: expected a name or an address, got " + quoted(Json(value)));
  if (!is_ours(*name, config))
    throw ApiError(421,
                   fmt::format("Host: expected a name of this server, got {}; 'hob serve "
                               "--allow-host NAME' adds one",
                               quoted(Json(value))),
                   "", "wrong_host");
}

void check_origin(const HttpRequest& request, const ServeConfig& config) {
  const std::string* origin = request.header("Origin");
  if (!origin || is_own_origin(request, *origin) || allowed_by_cors(*origin, config)) return;
  throw ApiError(403,
                 fmt::format("Origin: pages of {} may not use this server; 'hob serve --cors "
                             "ORIGIN' lets them",
                             quoted(Json(*origin))),
                 "", "origin_not_allowed");
}

HeaderList cors_headers(const HttpRequest& request, const ServeConfig& config, bool preflight) {
  const std::string* origin = request.header("Origin");
  if (!origin || !allowed_by_cors(*origin, config)) return {};
  HeaderList headers = {{"Access-Control-Allow-Origin", config.cors_origin == "*" ? "*" : *origin},
                        {"Access-Control-Expose-Headers", "X-Request-Id, Retry-After"},
                        {"Vary", "Origin"}};
  if (preflight) {
    headers.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
    headers.emplace_back("Access-Control-Allow-Headers",
                         "Authorization, Content-Type, X-API-Key, X-Request-Id");
    headers.emplace_back("Access-Control-Max-Age", "600");
  }
  return headers;
}

}  // namespace hob
