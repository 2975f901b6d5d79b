#include "http_options.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "output.h"
#include "serve_model.h"

namespace hob::app {
namespace {

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

}  // namespace

std::string HttpOptions::url(int real_port) const {
  const bool v6 = config.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", tls.certificate.empty() ? "http" : "https", v6 ? "[" : "",
                     config.host, v6 ? "]" : "", real_port);
}

void add_http_options(CLI::App& app, HttpOptions& o) {
  app.add_option("--host", o.config.host, "address to listen on");
  app.add_option("--port", o.port, "0 = any free one")->check(CLI::Range(0, 65535));
  app.add_option("--api-key-file", o.api_key_file, "keys that clients need, one per line");
  app.add_option("--alias", o.names, "what clients call the model; default: the file's name");
  app.add_option("--chat-format", o.chat_format,
                 "chatml, llama3, ...: for a file without a chat template that hob knows");
  app.add_option("--allow-host", o.config.allow_hosts,
                 "further names of this server in Host headers; * = any");
  app.add_option("--cors", o.config.cors_origin,
                 "origin whose pages may use this server, as https://example.org; * = any");
  app.add_option("--tls-cert", o.tls.certificate, "certificate chain, PEM");
  app.add_option("--tls-key", o.tls.key, "its private key, PEM");
  app.add_option("--body-limit", o.body_limit, "largest request body; default 8M");
  app.add_option("--request-timeout", o.config.request_timeout_s,
                 "seconds after which a request ends with an error; default: none")
      ->check(CLI::Range(1, 86400));
}

void check_http_options(HttpOptions& o) {
  if (o.tls.certificate.empty() != o.tls.key.empty())
    throw UsageError("[usage] expected --tls-cert and --tls-key together, got one of them");
  if (!o.api_key_file.empty()) o.config.keys = ApiKeys::from_file(o.api_key_file);
  if (!o.body_limit.empty()) {
    o.config.max_body_bytes = parse_size(o.body_limit);
    if (o.config.max_body_bytes > HttpLimits().max_bodies_bytes)
      throw UsageError(fmt::format("[usage] --body-limit: expected at most {}, got {}",
                                   format_size(HttpLimits().max_bodies_bytes), o.body_limit));
  }
  for (const std::string& name : o.names)
    if (name.empty()) throw UsageError("[usage] --alias: expected a name, got an empty one");
}

// Many slow clients are many open files.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 1 << 16);
  setrlimit(RLIMIT_NOFILE, &limit);
}

HttpLimits http_limits() {
  constexpr rlim_t kOwnFiles = 64;  // model shards, rings, logs
  HttpLimits limits;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > 2 * kOwnFiles)
    limits.max_connections = static_cast<int>(
        std::min<rlim_t>(static_cast<rlim_t>(limits.max_connections), files.rlim_cur - kOwnFiles));
  return limits;
}

ServerFile announce(const HttpOptions& o, int port, const std::string& model, bool quiet) {
  if (!is_loopback(o.config.host) && o.config.keys.empty())
    note(quiet, fmt::format("hob: warning: everybody who reaches {} may use this server; "
                            "--api-key-file asks for a key",
                            o.config.host));
  note(quiet, fmt::format("hob: listening on {}, loading", o.url(port)));
  return ServerFile({.host = o.config.host,
                     .port = port,
                     .tls = !o.tls.certificate.empty(),
                     .name = o.names.empty() ? model_name_of(model) : o.names[0],
                     .model = model});
}

void wait_for_the_end(bool quiet, ServerState& state, CompletionService& service,
                      const HttpServer& server, const StopSignals& signals,
                      const std::function<void()>& on_drain) {
  constexpr std::chrono::milliseconds kLong{60'000}, kShort{20};
  while (!signals.come(kLong)) {
  }
  state.set_draining();
  service.drain();
  if (on_drain) on_drain();
  if (!service.idle())
    note(quiet, "hob: finishing what runs, refusing what is new; a second signal stops");
  while (!service.idle() || server.n_active() > 0) {
    if (!signals.come(kShort)) continue;
    fail(Code::kCancelled, "[serve] expected to finish {} requests, was stopped",
         server.n_active());
  }
}

}  // namespace hob::app
