#include "serve/request_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <random>

#include "base/error.h"

namespace hob {
namespace {

constexpr double kMaxTemperature = 100, kMaxPenalty = 2;
constexpr size_t kMaxLogitBias = 1024, kMaxStopTokens = 1024;

// They would change the answer.
constexpr const char* kRefused[] = {"tools",
                                    "functions",
                                    "function_call",
                                    "guided_json",
                                    "guided_regex",
                                    "guided_choice",
                                    "guided_grammar",
                                    "structured_outputs",
                                    "grammar",
                                    "json_schema",
                                    "audio",
                                    "prompt_embeds",
                                    "use_beam_search",
                                    "allowed_token_ids",
                                    "bad_words",
                                    "truncate_prompt_tokens",
                                    "logits_processors",
                                    "web_search_options",
                                    "thinking_token_budget"};

void check_unsupported(const JsonFields& body) {
  for (const char* name : kRefused) body.refuse_if_used(name);
  if (const Json* choice = body.find("tool_choice");
      choice && *choice != "none" && *choice != "auto")
    body.not_supported("tool_choice");
  if (const auto format = body.object("response_format")) {
    const std::string type = format->string("type").value_or("");
    if (type == "json_object" || type == "json_schema" || type == "structural_tag")
      format->not_supported("type");
    if (type != "text") format->refuse("type", "\"text\"");
  }
  if (const Json* modalities = body.find("modalities"); modalities && *modalities != Json{"text"})
    body.not_supported("modalities");
}

int32_t bias_token(const std::string& key, int n_vocab) {
  constexpr size_t kMostDigits = 9;
  const bool digits = !key.empty() && key.size() <= kMostDigits &&
                      key.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || std::stoi(key) >= n_vocab)
    throw ApiError(400,
                   fmt::format("logit_bias: expected token ids from 0 to {} as keys, got {}",
                               n_vocab - 1, quoted(Json(key))),
                   "logit_bias");
  return std::stoi(key);
}

std::vector<std::pair<int32_t, float>> logit_bias(const JsonFields& body, int n_vocab) {
  constexpr double kMostBias = 100;
  std::vector<std::pair<int32_t, float>> out;
  const Json* object = body.find("logit_bias");
  if (!object) return out;
  const JsonFields fields(*object, "logit_bias.");
  if (object->size() > kMaxLogitBias)
    body.refuse("logit_bias", fmt::format("at most {} entries", kMaxLogitBias));
  for (const auto& [key, value] : object->items()) {
    const int32_t token = bias_token(key, n_vocab);
    if (!value.is_null())
      out.emplace_back(token,
                       static_cast<float>(*fields.number(key.c_str(), -kMostBias, kMostBias)));
  }
  return out;
}

SamplingParams sampling_params(const JsonFields& body) {
  SamplingParams s;
  // OpenAI's and vLLM's defaults: the model's own distribution.
  s.temperature = static_cast<float>(body.number("temperature", 0, kMaxTemperature).value_or(1));
  s.top_p = top_p(body, 1);
  s.top_k = static_cast<int>(body.integer("top_k", -1, INT32_MAX).value_or(0));
  if (s.top_k < 0) s.top_k = 0;  // -1 = off, as 0
  s.min_p = static_cast<float>(body.number("min_p", 0, 1).value_or(0));
  s.repetition_penalty = repetition_penalty(body, "repetition_penalty", 1);
  s.presence_penalty =
      static_cast<float>(body.number("presence_penalty", -kMaxPenalty, kMaxPenalty).value_or(0));
  s.frequency_penalty =
      static_cast<float>(body.number("frequency_penalty", -kMaxPenalty, kMaxPenalty).value_or(0));
  s.penalty_window = 0;  // the whole sequence
  s.seed = seed_or_random(body.integer("seed", INT64_MIN, INT64_MAX));
  return s;
}

std::string text_of(const JsonFields& message) {
  const Json* content = message.find("content");
  if (!content) message.refuse("content", "a string or a list of text parts");
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) message.refuse("content", "a string or a list of text parts");
  std::string text;
  for (size_t i = 0; i < content->size(); i++) {
    const JsonFields part((*content)[i], message.path_of("content") + fmt::format("[{}].", i));
    const std::string type = part.string("type").value_or("text");
    if (type == "image_url" || type == "input_audio" || type == "file" || type == "refusal")
      part.not_supported("type");
    if (type != "text") part.refuse("type", "\"text\"");
    const auto piece = part.string("text");
    if (!piece) part.refuse("text", "a string");
    text += *piece;
  }
  return text;
}

std::string role_of(const JsonFields& message) {
  const std::string role = message.string("role").value_or("");
  if (role == "tool" || role == "function") message.not_supported("role");
  if (role == "developer") return "system";  // OpenAI's newer word
  if (role != "system" && role != "user" && role != "assistant")
    message.refuse("role", "system, user or assistant");
  return role;
}

}  // namespace

void check_model_name(const JsonFields& body, const LoadedModel& model) {
  const auto name = body.string("model");
  if (!name || name->empty() || model.answers_to(*name)) return;
  throw ApiError(
      404,
      fmt::format("model: expected \"{}\", got {}", model.facts.name, quoted(*body.find("model"))),
      "model", "model_not_found");
}

uint64_t seed_or_random(std::optional<int64_t> seed) {
  if (seed) return static_cast<uint64_t>(*seed);
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

float top_p(const JsonFields& fields, float otherwise) {
  const double p = fields.number("top_p", 0, 1).value_or(otherwise);
  if (p == 0) fields.refuse("top_p", "a number above 0 and up to 1");
  return std::max(static_cast<float>(p), FLT_MIN);  // what float cannot tell from 0 is not 0
}

float repetition_penalty(const JsonFields& fields, const char* name, float otherwise) {
  constexpr double kLeast = 0.01, kMost = 100;
  return static_cast<float>(fields.number(name, kLeast, kMost).value_or(otherwise));
}

std::vector<std::string> stop_strings(const JsonFields& fields, const char* name) {
  const Json* value = fields.find(name);
  if (!value) return {};
  const std::string expected = fmt::format(
      "a string or a list of at most {} strings of 1 to {} bytes", kMaxStops, kMaxStopBytes);
  std::vector<std::string> stops;
  if (value->is_string()) {
    stops.push_back(value->get<std::string>());
  } else {
    if (!value->is_array() || value->size() > kMaxStops) fields.refuse(name, expected);
    for (const Json& item : *value) {
      if (!item.is_string()) fields.refuse(name, expected);
      stops.push_back(item.get<std::string>());
    }
  }
  for (const std::string& stop : stops)
    if (stop.empty() || stop.size() > kMaxStopBytes) fields.refuse(name, expected);
  return stops;
}

CompletionRequest sampling_request(const JsonFields& body, const LoadedModel& model) {
  check_unsupported(body);
  const int n_vocab = model.tokenizer->n_vocab();
  CompletionRequest r;
  r.sampling = sampling_params(body);
  r.n = static_cast<int>(body.integer("n", 1, kMaxChoices).value_or(1));
  if (const auto best_of = body.integer("best_of", 1, kMaxChoices); best_of && *best_of != r.n)
    body.not_supported("best_of");
  r.min_tok = static_cast<int>(body.integer("min_tokens", 0, INT32_MAX).value_or(0));
  r.stop = stop_strings(body, "stop");
  r.include_stop = body.flag("include_stop_str_in_output");
  r.stop_token_ids = body.tokens("stop_token_ids", n_vocab).value_or(std::vector<int32_t>());
  if (r.stop_token_ids.size() > kMaxStopTokens)
    body.refuse("stop_token_ids", fmt::format("at most {} ids", kMaxStopTokens));
  r.ignore_eos = body.flag("ignore_eos");
  r.logit_bias = logit_bias(body, n_vocab);
  r.skip_special_tokens = body.flag("skip_special_tokens", true);
  r.priority = static_cast<int>(body.integer("priority", INT32_MIN, INT32_MAX).value_or(0));
  r.cache_salt = body.string("cache_salt").value_or("");
  r.wants_provisional = body.flag("stream") && body.flag("provisional");
  if (const auto k = body.integer("prompt_logprobs", 0, kMaxLogprobs))
    r.n_prompt_logprobs = static_cast<int>(*k);
  return r;
}

void check_length(CompletionRequest& request, const LoadedModel& model) {
  const int64_t limit = model.service->max_model_len();
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  const auto too_long = [](const std::string& message) {
    throw ApiError(400, message, "", "context_length_exceeded");
  };
  if (n_prompt == 0) throw ApiError(400, "prompt: expected at least one token, got none", "prompt");
  if (n_prompt + (request.max_tok == 0 ? 0 : 1) > limit)
    too_long(fmt::format("the prompt has {} tokens, the context holds {} with the answer", n_prompt,
                         limit));
  if (request.max_tok >= 0 && n_prompt + request.max_tok > limit)
    too_long(
        fmt::format("the prompt has {} tokens and max_tokens is {}: together {}, the context "
                    "holds {}",
                    n_prompt, request.max_tok, n_prompt + request.max_tok, limit));
  if (request.max_tok < 0) request.max_tok = static_cast<int>(limit - n_prompt);
  if (request.min_tok > request.max_tok)
    throw ApiError(400,
                   fmt::format("min_tokens: expected at most max_tokens = {}, got {}",
                               request.max_tok, request.min_tok),
                   "min_tokens");
}

std::vector<ChatMessage> chat_messages(const JsonFields& body, const char* name) {
  const Json* list = body.find(name);
  if (!list || !list->is_array() || list->empty()) body.refuse(name, "a list of messages");
  std::vector<ChatMessage> messages;
  for (size_t i = 0; i < list->size(); i++) {
    const JsonFields message((*list)[i], body.path_of(name) + fmt::format("[{}].", i));
    message.refuse_if_used("tool_calls");
    message.refuse_if_used("function_call");
    message.refuse_if_used("images");
    message.refuse_if_used("audio");
    messages.push_back({.role = role_of(message), .content = text_of(message)});
  }
  return messages;
}

std::vector<TokenId> chat_prompt(const LoadedModel& model,
                                 const std::vector<ChatMessage>& messages) {
  if (!model.chat)
    throw ApiError(400,
                   "messages: the model file has no chat template that hob knows: use "
                   "/v1/completions, or start 'hob serve' with --chat-format",
                   "messages", "no_chat_template");
  return render_chat(*model.chat, *model.tokenizer, messages);
}

}  // namespace hob
