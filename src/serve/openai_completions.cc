// POST /v1/completions
#include <fmt/format.h>

#include "serve/handlers.h"
#include "serve/logprobs_json.h"
#include "serve/openai_reply.h"

namespace hob {
namespace {

struct Prompt {
  std::vector<TokenId> tokens;
  std::string text;  // for echo
};

struct EchoOptions {
  bool echo = false;
  std::vector<Prompt> prompts;  // of each part
};

class TextReply : public OpenAiReply {
 public:
  TextReply(ModelPtr model, OpenAiReplyOptions options, EchoOptions echo)
      : OpenAiReply(std::move(model), std::move(options)), echo_(std::move(echo)) {}

 protected:
  const char* chunk_kind() const override { return "text_completion"; }
  const char* whole_kind() const override { return "text_completion"; }

  void stream_delta(int index, Choice& choice, const CompletionDelta& delta) override {
    std::string text = delta.text;
    std::vector<TokenLogprob> logprobs = delta.logprobs;
    if (echo_.echo && !choice.started) {
      text = prompt_of(index).text + text;
      logprobs.insert(logprobs.begin(), choice.prompt_logprobs.begin(),
                      choice.prompt_logprobs.end());
    }
    if (text.empty() && logprobs.empty() && !delta.finish) return;
    OrderedJson out = entry(index, std::move(text), delta.finish);
    if (options().logprobs && !logprobs.empty())
      out["logprobs"] =
          text_logprobs(logprobs, *model().tokenizer, choice.n_chars, options().tokens_as_ids);
    emit_choice(std::move(out));
  }

  OrderedJson whole_choice(int index, const Choice& choice) const override {
    std::vector<TokenLogprob> logprobs = choice.logprobs;
    std::string text = choice.text;
    if (echo_.echo) {
      text = prompt_of(index).text + text;
      logprobs.insert(logprobs.begin(), choice.prompt_logprobs.begin(),
                      choice.prompt_logprobs.end());
    }
    OrderedJson out = entry(index, std::move(text), choice.finish.value_or(FinishReason::kStop));
    size_t n_chars = 0;
    if (options().logprobs)
      out["logprobs"] =
          text_logprobs(logprobs, *model().tokenizer, n_chars, options().tokens_as_ids);
    if (!echo_.echo && !choice.prompt_logprobs.empty())
      out["prompt_logprobs"] = prompt_logprobs_json(choice);
    return out;
  }

 private:
  const Prompt& prompt_of(int index) const {
    return echo_.prompts[static_cast<size_t>(part_of(index))];
  }
  static OrderedJson entry(int index, std::string text, std::optional<FinishReason> finish) {
    return {{"index", index},
            {"text", std::move(text)},
            {"logprobs", nullptr},
            {"finish_reason", finish ? OrderedJson(finish_name(*finish)) : OrderedJson(nullptr)}};
  }

  EchoOptions echo_;
};

Prompt text_prompt(const LoadedModel& model, std::string text, bool add_special) {
  // As vLLM: a control token's name in a raw prompt is that token.
  Prompt prompt{model.tokenizer->encode(text, {.add_special = add_special, .parse_special = true}),
                ""};
  prompt.text = std::move(text);
  return prompt;
}

Prompt token_prompt(const LoadedModel& model, std::vector<int32_t> tokens) {
  std::string text = model.tokenizer->decode(tokens, true);
  return {std::move(tokens), std::move(text)};
}

// A string, a list of strings, a list of ids, or a list of lists of ids.
std::vector<Prompt> prompts_of(const JsonFields& body, const LoadedModel& model) {
  const char* expected = "a string, a list of strings, token ids, or a list of lists of token ids";
  const Json* value = body.find("prompt");
  if (!value) body.refuse("prompt", expected);
  const bool add_special = body.flag("add_special_tokens", true);
  if (value->is_string()) return {text_prompt(model, value->get<std::string>(), add_special)};
  if (!value->is_array() || value->empty()) body.refuse("prompt", expected);
  const int n_vocab = model.tokenizer->n_vocab();
  if ((*value)[0].is_number()) return {token_prompt(model, token_list(*value, n_vocab, "prompt"))};
  if (value->size() > static_cast<size_t>(model.facts.max_queue))
    body.refuse("prompt", fmt::format("at most {} prompts", model.facts.max_queue));
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < value->size(); i++) {
    const Json& item = (*value)[i];
    if (item.is_string())
      prompts.push_back(text_prompt(model, item.get<std::string>(), add_special));
    else if (item.is_array())
      prompts.push_back(
          token_prompt(model, token_list(item, n_vocab, fmt::format("prompt[{}]", i))));
    else
      body.refuse("prompt", expected);
  }
  return prompts;
}

void set_logprobs(const JsonFields& body, bool echo, CompletionRequest& r) {
  if (const auto k = body.integer("logprobs", 0, kMaxLogprobs)) {
    r.n_logprobs = static_cast<int>(*k);
    if (echo) r.n_prompt_logprobs = r.n_logprobs;
  }
}

}  // namespace

Answer text_completions(const ServeContext& context, const HttpRequest& request) {
  constexpr int kDefaultMaxTok = 16;  // OpenAI's and vLLM's
  const ModelPtr model = context.require_model();
  const Json json = parse_json_object(request.body);
  const JsonFields body(json);
  check_model_name(body, *model);
  body.refuse_if_used("suffix");
  CompletionRequest r = sampling_request(body, *model);
  EchoOptions echo{.echo = body.flag("echo"), .prompts = {}};
  set_logprobs(body, echo.echo, r);
  r.max_tok = static_cast<int>(body.integer("max_tokens", 0, INT32_MAX).value_or(kDefaultMaxTok));
  if (r.max_tok == 0 && !echo.echo) body.refuse("max_tokens", "at least 1 without echo");

  OpenAiReplyOptions options = stream_options(body, r);
  options.id = "cmpl-" + request.id;
  options.n = r.n;
  echo.prompts = prompts_of(body, *model);
  CompletionJob job;
  for (const Prompt& prompt : echo.prompts) {
    CompletionRequest part = r;
    part.prompt = prompt.tokens;
    check_length(part, *model);
    options.n_prompt_tok.push_back(static_cast<int>(prompt.tokens.size()));
    job.parts.push_back(std::move(part));
  }
  job.reply = std::make_unique<TextReply>(model, std::move(options), std::move(echo));
  return job;
}

}  // namespace hob
