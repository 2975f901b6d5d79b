#pragma once
// Which requests a browser may send here. Against DNS rebinding: a page of attacker.example whose
// name resolves to 127.0.0.1 still sends its own name as Host. Against pages of other origins: they
// send Origin.
#include "serve/http_types.h"
#include "serve/serve_context.h"

namespace hob {

// Throws ApiError: 400 for a missing or malformed Host, 421 for a name that is not ours. Addresses
// are always ours: rebinding needs a name.
void check_host(const HttpRequest& request, const ServeConfig& config);
// Throws ApiError(403) for an Origin that is neither ours nor allowed by --cors.
void check_origin(const HttpRequest& request, const ServeConfig& config);
// Headers of every reply to an allowed origin; `preflight`: also those that OPTIONS asks for.
HeaderList cors_headers(const HttpRequest& request, const ServeConfig& config, bool preflight);

}  // namespace hob
