#pragma once
// The HTTP side that `serve` and `edge` share: options, limits, how it ends.
#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "serve/http_server.h"
#include "serve/serve_context.h"
#include "server_file.h"
#include "stop_signals.h"

namespace hob::app {

struct HttpOptions {
  ServeConfig config;
  TlsFiles tls;
  int port = 8080;
  std::vector<std::string> names;
  std::string api_key_file, body_limit, chat_format;

  std::string url(int real_port) const;
};

void add_http_options(CLI::App& app, HttpOptions& options);
// Throws UsageError or Error; reads the key file.
void check_http_options(HttpOptions& options);

void raise_file_limit();
HttpLimits http_limits();

// Says where it listens, warns when everybody may; the entry for `hob ps`.
ServerFile announce(const HttpOptions& options, int port, const std::string& model, bool quiet);

// Until a signal comes; then until the last request has its answer, or a second signal comes.
// `on_drain`: once the first has come.
void wait_for_the_end(bool quiet, ServerState& state, CompletionService& service,
                      const HttpServer& server, const StopSignals& signals,
                      const std::function<void()>& on_drain);

}  // namespace hob::app
