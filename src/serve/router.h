#pragma once
// From a request to its answer: checks, then the table of endpoints.
#include <span>
#include <string_view>

#include "serve/completion_job.h"
#include "serve/serve_context.h"

namespace hob {

using Handler = Answer (*)(const ServeContext& context, const HttpRequest& request);

struct Route {
  std::string_view method;
  std::string_view path;  // may end with "/{x}": one segment, given as HttpRequest::param
  Handler handler;
  bool needs_key = true;
  // Answered on the thread that serves the sockets, so that no long prompt delays it.
  bool quick = true;
};

// An endpoint = one handler + one row.
std::span<const Route> route_table();

struct Routed {
  Answer answer;
  // Of the request, to be repeated in the reply's headers: its id, CORS.
  HeaderList headers;
};

// True when the answer may take long: parsing, tokenising.
bool is_slow(const HttpRequest& request);

// Never throws: what goes wrong is in the answer. Fills in the request's id, path, param, tenant.
Routed route(const ServeContext& context, HttpRequest& request);

// Which shape errors of this path have.
ErrorShape error_shape_of(std::string_view path);

}  // namespace hob
