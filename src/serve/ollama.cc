// POST /api/chat, /api/generate.
#include "serve/ollama.h"

#include <fmt/format.h>

#include <cmath>

#include "serve/handlers.h"

namespace hob {
namespace {

SamplingParams sampling_params(const JsonFields& o) {
  SamplingParams s;
  s.temperature = static_cast<float>(o.number("temperature", 0, 100).value_or(0.8));
  s.top_k = static_cast<int>(o.integer("top_k", 0, INT32_MAX).value_or(40));
  s.top_p = top_p(o, 0.9f);
  s.min_p = static_cast<float>(o.number("min_p", 0, 1).value_or(0));
  s.repetition_penalty = repetition_penalty(o, "repeat_penalty", 1.1f);
  s.presence_penalty = static_cast<float>(o.number("presence_penalty", -2, 2).value_or(0));
  s.frequency_penalty = static_cast<float>(o.number("frequency_penalty", -2, 2).value_or(0));
  // Ollama: 0 = no penalties, -1 = all of the context. Ours: 0 = all.
  const int64_t last_n = o.integer("repeat_last_n", -1, INT32_MAX).value_or(64);
  s.penalty_window = last_n < 0 ? 0 : static_cast<int>(last_n);
  if (last_n == 0) {
    s.penalty_window = 1;
    s.repetition_penalty = 1;
    s.presence_penalty = s.frequency_penalty = 0;
  }
  s.seed = seed_or_random(o.integer("seed", INT64_MIN, INT64_MAX));
  return s;
}

void refuse_other_samplers(const JsonFields& o) {
  if (o.integer("mirostat", 0, 2).value_or(0) != 0) o.not_supported("mirostat");
  if (o.number("typical_p", 0, 1).value_or(1) != 1) o.not_supported("typical_p");
  if (o.number("tfs_z", 0, 1).value_or(1) != 1) o.not_supported("tfs_z");
}

// Accepted in Ollama's forms; a served model stays loaded anyway.
bool keep_alive_is_zero(const JsonFields& body) {
  const Json* value = body.find("keep_alive");
  if (!value) return false;
  if (value->is_number()) return *value == 0;
  if (!value->is_string()) body.refuse("keep_alive", "a duration as \"5m\" or a number of seconds");
  return *value == "0" || *value == "0s" || *value == "0m";
}

CompletionJob job_of(CompletionRequest request, const ModelPtr& model, OllamaKind kind,
                     bool stream) {
  // "num_predict": more than fits means until the context is full.
  const int limit = model->service->max_model_len() - static_cast<int>(request.prompt.size());
  if (request.max_tok > limit) request.max_tok = -1;
  check_length(request, *model);
  CompletionJob job;
  job.parts.push_back(std::move(request));
  job.reply = std::make_unique<OllamaReply>(model, kind, stream);
  return job;
}

std::vector<TokenId> generate_prompt(const JsonFields& body, const LoadedModel& model,
                                     const std::string& prompt) {
  const auto system = body.string("system");
  if (body.flag("raw") || (!model.chat && !system))
    return model.tokenizer->encode(prompt, {.add_special = true, .parse_special = true});
  std::vector<ChatMessage> messages;
  if (system && !system->empty()) messages.push_back({"system", *system});
  messages.push_back({"user", prompt});
  return chat_prompt(model, messages);
}

}  // namespace

void check_ollama_model(const JsonFields& body, const LoadedModel& model) {
  // Ollama's own client in Go sends both, "name" empty.
  const auto newer = body.string("model"), older = body.string("name");
  const auto& name = newer && !newer->empty() ? newer : older;
  if (!name || name->empty()) body.refuse("model", "the model's name");
  if (!model.answers_to(*name))
    throw ApiError(404, fmt::format("model '{}' not found, '{}' is there", *name, model.facts.name),
                   "model");
}

CompletionRequest ollama_request(const JsonFields& body, const LoadedModel& model) {
  for (const char* name : {"tools", "format", "images", "suffix", "template", "context", "think",
                           "logprobs", "adapter"})
    if (const Json* value = body.find(name); value && *value != "") body.refuse_if_used(name);
  static const Json kNone = Json::object();
  const JsonFields o = body.object("options").value_or(JsonFields(kNone));
  refuse_other_samplers(o);
  CompletionRequest r;
  r.sampling = sampling_params(o);
  r.stop = stop_strings(o, "stop");
  // -1 = until it ends, -2 = until the context is full.
  const int64_t n = o.integer("num_predict", -2, INT32_MAX).value_or(-1);
  if (n == 0) o.refuse("num_predict", "at least 1, or -1 for no limit");
  r.max_tok = n < 0 ? -1 : static_cast<int>(n);
  r.ignore_eos = n == -2;
  const int limit = model.service->max_model_len();
  if (const auto n_ctx = o.integer("num_ctx", 1, INT32_MAX); n_ctx && *n_ctx > limit)
    throw ApiError(400,
                   fmt::format("options.num_ctx: the context of this server holds {} tokens, got "
                               "{}; 'hob serve --ctx' sets it",
                               limit, *n_ctx),
                   "options.num_ctx");
  return r;
}

Answer ollama_chat(const ServeContext& context, const HttpRequest& request) {
  const ModelPtr model = context.require_model();
  const Json json = parse_json_object(request.body);
  const JsonFields body(json);
  check_ollama_model(body, *model);
  const bool stream = body.flag("stream", true);
  const bool unload = keep_alive_is_zero(body);
  CompletionRequest r = ollama_request(body, *model);
  const Json* messages = body.find("messages");
  if (!messages || (messages->is_array() && messages->empty()))
    return ollama_loaded(*model, OllamaKind::kChat, unload);
  r.prompt = chat_prompt(*model, chat_messages(body, "messages"));
  return job_of(std::move(r), model, OllamaKind::kChat, stream);
}

Answer ollama_generate(const ServeContext& context, const HttpRequest& request) {
  const ModelPtr model = context.require_model();
  const Json json = parse_json_object(request.body);
  const JsonFields body(json);
  check_ollama_model(body, *model);
  const bool stream = body.flag("stream", true);
  const bool unload = keep_alive_is_zero(body);
  CompletionRequest r = ollama_request(body, *model);
  const std::string prompt = body.string("prompt").value_or("");
  if (prompt.empty()) return ollama_loaded(*model, OllamaKind::kGenerate, unload);
  r.prompt = generate_prompt(body, *model, prompt);
  return job_of(std::move(r), model, OllamaKind::kGenerate, stream);
}

}  // namespace hob
