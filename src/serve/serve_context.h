#pragma once
// What every handler and check may look at.
#include <string>
#include <vector>

#include "serve/auth.h"
#include "serve/served_model.h"

namespace hob {

struct ServeConfig {
  std::string host = "127.0.0.1";        // that we listen on
  std::vector<std::string> allow_hosts;  // further names of this server; "*" = any
  std::string cors_origin;               // empty = no browser of another origin; "*" = any
  ApiKeys keys;                          // none = no key needed
  size_t max_body_bytes = 8 << 20;
  int request_timeout_s = 0;  // 0 = none
};

struct ServeContext {
  const ServeConfig* config = nullptr;
  ServerState* state = nullptr;

  // Throws ApiError(503) while the model loads.
  std::shared_ptr<const LoadedModel> require_model() const;
};

}  // namespace hob
