// GET /v1/models, GET /v1/models/{id}; what OpenAI's two completion endpoints share.
#include "serve/handlers.h"

namespace hob {
namespace {

OrderedJson model_json(const LoadedModel& model, const std::string& id) {
  return {{"id", id},
          {"object", "model"},
          {"created", model.facts.loaded},
          {"owned_by", "hob"},
          {"root", model.facts.name},
          {"parent", nullptr},
          {"max_model_len", model.service->max_model_len()},
          {"permission", OrderedJson::array()}};
}

}  // namespace

OpenAiReplyOptions stream_options(const JsonFields& body, const CompletionRequest& request) {
  OpenAiReplyOptions options;
  options.stream = body.flag("stream");
  if (const auto stream = body.object("stream_options")) {
    if (!options.stream) body.refuse("stream_options", "stream: true beside it");
    options.include_usage = stream->flag("include_usage");
    options.continuous_usage = options.include_usage && stream->flag("continuous_usage_stats");
  }
  if (options.stream && body.has("prompt_logprobs"))
    body.refuse("prompt_logprobs", "stream: false beside it");
  options.logprobs = request.n_logprobs >= 0;
  options.tokens_as_ids = body.flag("return_tokens_as_token_ids");
  return options;
}

Answer list_models(const ServeContext& context, const HttpRequest&) {
  const ModelPtr model = context.require_model();
  OrderedJson list = OrderedJson::array({model_json(*model, model->facts.name)});
  for (const std::string& alias : model->facts.aliases) list.push_back(model_json(*model, alias));
  return json_reply({{"object", "list"}, {"data", std::move(list)}});
}

Answer show_model(const ServeContext& context, const HttpRequest& request) {
  const ModelPtr model = context.require_model();
  if (!model->answers_to(request.param))
    throw ApiError(
        404, "model: expected \"" + model->facts.name + "\", got " + quoted(Json(request.param)),
        "model", "model_not_found");
  return json_reply(model_json(*model, request.param));
}

}  // namespace hob
