#include "serve/router.h"

#include <fmt/format.h>

#include <algorithm>

#include "serve/access.h"
#include "serve/handlers.h"
#include "serve/http_wire.h"

namespace hob {
namespace {

constexpr Route kRoutes[] = {
    {"GET", "/health", health, /*needs_key=*/false},
    {"GET", "/ready", ready},
    {"GET", "/metrics", metrics},
    {"GET", "/version", version},
    {"POST", "/v1/chat/completions", chat_completions, true, /*quick=*/false},
    {"POST", "/v1/completions", text_completions, true, false},
    {"GET", "/v1/models", list_models},
    {"GET", "/v1/models/{id}", show_model},
    {"POST", "/tokenize", tokenize, true, false},
    {"POST", "/detokenize", detokenize, true, false},
    {"GET", "/tokenizer_info", tokenizer_info},
    {"GET", "/", ollama_root},
    {"GET", "/api/version", ollama_version},
    {"GET", "/api/tags", ollama_tags},
    {"POST", "/api/show", ollama_show, true, false},
    {"GET", "/api/ps", ollama_ps},
    {"POST", "/api/chat", ollama_chat, true, false},
    {"POST", "/api/generate", ollama_generate, true, false},
};

// The part behind "/v1/models/" for "/v1/models/{id}"; nullopt = another path.
std::optional<std::string> match(std::string_view pattern, std::string_view path) {
  const size_t open = pattern.find('{');
  if (open == std::string_view::npos)
    return pattern == path ? std::optional<std::string>("") : std::nullopt;
  // A model's name may hold a slash.
  if (!path.starts_with(pattern.substr(0, open)) || path.size() == open) return std::nullopt;
  return std::string(path.substr(open));
}

std::string allowed_methods(std::string_view path) {
  std::string out = "OPTIONS";
  for (const Route& route : kRoutes) {
    if (!match(route.path, path)) continue;
    out += fmt::format(", {}", route.method);
    if (route.method == "GET") out += ", HEAD";
  }
  return out;
}

const Route& find_route(HttpRequest& request) {
  const std::string_view sent = request.method;
  const std::string_view method = sent == "HEAD" ? "GET" : sent;
  bool path_known = false;
  for (const Route& route : kRoutes) {
    const auto param = match(route.path, request.path);
    if (!param) continue;
    path_known = true;
    if (route.method != method) continue;
    request.param = *param;
    return route;
  }
  if (path_known)
    throw ApiError(405, fmt::format("{}: expected {}, got {}", request.path,
                                    allowed_methods(request.path), request.method));
  throw ApiError(404, fmt::format("there is no {}", quoted(Json(request.path))), "", "not_found");
}

// Honoured when it is harmless in a header and in JSON.
std::string request_id(const HttpRequest& request, ServerState& state) {
  constexpr size_t kMost = 128;
  const std::string* given = request.header("X-Request-Id");
  const auto harmless = [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == ':';
  };
  if (given && !given->empty() && given->size() <= kMost &&
      std::all_of(given->begin(), given->end(), harmless))
    return *given;
  return fmt::format("{:x}-{:x}", std::time(nullptr), state.next_id());
}

void check_content_type(const HttpRequest& request) {
  // Ollama's documentation uses curl without a content type; its servers do not look.
  if (request.method != "POST" || request.path.starts_with("/api/")) return;
  const std::string* type = request.header("Content-Type");
  if (!type) return;
  const std::string_view name = std::string_view(*type).substr(0, type->find_first_of("; "));
  if (!same_ignoring_case(name, "application/json"))
    throw ApiError(415, "Content-Type: expected application/json, got " + quoted(Json(*type)));
}

HttpReply preflight(const HttpRequest& request) {
  HttpReply reply;
  reply.status = 204;
  reply.headers.emplace_back("Allow", allowed_methods(request.path));
  return reply;
}

Answer checked_answer(const ServeContext& context, HttpRequest& request) {
  const auto path = target_path(request.target);
  if (!path) throw ApiError(400, "expected a path, got " + quoted(Json(request.target)));
  request.path = *path;
  check_host(request, *context.config);
  check_origin(request, *context.config);
  // Browsers send no key with a preflight.
  if (request.method == "OPTIONS") return preflight(request);
  // The key before the route: without one, nobody learns what there is.
  const bool open = std::any_of(std::begin(kRoutes), std::end(kRoutes), [&](const Route& r) {
    return !r.needs_key && match(r.path, request.path);
  });
  if (!open && !context.config->keys.empty())
    request.tenant = context.config->keys.tenant_of(request.headers);
  const Route& route = find_route(request);
  check_content_type(request);
  return route.handler(context, request);
}

}  // namespace

std::span<const Route> route_table() { return kRoutes; }

ErrorShape error_shape_of(std::string_view path) {
  return path.starts_with("/api/") ? ErrorShape::kOllama : ErrorShape::kOpenAi;
}

bool is_slow(const HttpRequest& request) {
  const auto path = target_path(request.target);
  return path && std::any_of(std::begin(kRoutes), std::end(kRoutes), [&](const Route& r) {
           return !r.quick && r.method == request.method && match(r.path, *path);
         });
}

Routed route(const ServeContext& context, HttpRequest& request) {
  request.id = request_id(request, *context.state);
  Routed out;
  try {
    out.answer = checked_answer(context, request);
  } catch (...) {
    const ApiError error = as_api_error(std::current_exception());
    HttpReply reply = error_reply(error, error_shape_of(request.path));
    if (error.status == 405) reply.headers.emplace_back("Allow", allowed_methods(request.path));
    out.answer = std::move(reply);
  }
  out.headers = cors_headers(request, *context.config, request.method == "OPTIONS");
  out.headers.emplace_back("X-Request-Id", request.id);
  return out;
}

}  // namespace hob
