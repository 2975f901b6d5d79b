// What watches the server: /health, /ready, /metrics, /version.
#include <fmt/format.h>

#include <cmath>

#include "serve/handlers.h"

namespace hob {

std::shared_ptr<const LoadedModel> ServeContext::require_model() const {
  auto model = state->model();
  if (model) return model;
  const auto [what, share] = state->progress();
  ApiError error(503, fmt::format("the model is loading: {} ({:.0f} %)", what, share * 100), "",
                 "loading");
  error.retry_after_s = 5;
  throw error;
}

HttpReply json_reply(const OrderedJson& body, int status) {
  HttpReply reply;
  reply.status = status;
  reply.body = dump_json(body);
  return reply;
}

Answer health(const ServeContext&, const HttpRequest&) { return json_reply({{"status", "ok"}}); }

Answer ready(const ServeContext& context, const HttpRequest&) {
  if (context.state->draining()) {
    ApiError error(503, "the server is stopping", "", "shutting_down");
    error.retry_after_s = 5;
    throw error;
  }
  const auto model = context.require_model();
  return json_reply({{"status", "ready"}, {"model", model->facts.name}, {"load_s", model->load_s}});
}

Answer metrics(const ServeContext& context, const HttpRequest&) {
  HttpReply reply;
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  if (const auto model = context.state->model()) {
    const ServeStats stats = model->service->stats();
    reply.body = context.state->metrics().text(model->facts.name, &stats);
  } else {
    reply.body = context.state->metrics().text("", nullptr);
  }
  return reply;
}

Answer version(const ServeContext&, const HttpRequest&) {
  return json_reply({{"version", kHobVersion}});
}

}  // namespace hob
