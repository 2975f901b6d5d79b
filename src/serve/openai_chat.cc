// POST /v1/chat/completions
#include "serve/handlers.h"
#include "serve/logprobs_json.h"
#include "serve/openai_reply.h"

namespace hob {
namespace {

class ChatReply : public OpenAiReply {
 public:
  using OpenAiReply::OpenAiReply;

 protected:
  const char* chunk_kind() const override { return "chat.completion.chunk"; }
  const char* whole_kind() const override { return "chat.completion"; }

  void stream_delta(int index, Choice& choice, const CompletionDelta& delta) override {
    if (!choice.started)
      emit_choice(chunk(index, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr));
    OrderedJson logprobs = nullptr;
    if (options().logprobs && !delta.logprobs.empty()) logprobs = logprobs_json(delta.logprobs);
    if (!delta.text.empty() || !logprobs.is_null())
      emit_choice(chunk(index, {{"content", delta.text}}, std::move(logprobs), nullptr));
    if (delta.finish)
      emit_choice(chunk(index, OrderedJson::object(), nullptr, finish_name(*delta.finish)));
  }

  OrderedJson whole_choice(int index, const Choice& choice) const override {
    OrderedJson out = {{"index", index},
                       {"message", {{"role", "assistant"}, {"content", choice.text}}},
                       {"logprobs", nullptr},
                       {"finish_reason", finish_name(choice.finish.value_or(FinishReason::kStop))}};
    if (options().logprobs) out["logprobs"] = logprobs_json(choice.logprobs);
    if (!choice.prompt_logprobs.empty()) out["prompt_logprobs"] = prompt_logprobs_json(choice);
    return out;
  }

 private:
  OrderedJson logprobs_json(const std::vector<TokenLogprob>& logprobs) const {
    return {{"content", chat_logprobs(logprobs, *model().tokenizer, options().tokens_as_ids)}};
  }
  static OrderedJson chunk(int index, OrderedJson delta, OrderedJson logprobs, OrderedJson finish) {
    return {{"index", index},
            {"delta", std::move(delta)},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", std::move(finish)}};
  }
};

// top_logprobs counts only with logprobs: true.
int n_logprobs(const JsonFields& body) {
  const bool wanted = body.flag("logprobs");
  const auto top = body.integer("top_logprobs", 0, kMaxLogprobs);
  if (top && *top > 0 && !wanted) body.refuse("top_logprobs", "logprobs: true beside it");
  return wanted ? static_cast<int>(top.value_or(0)) : -1;
}

void refuse_continuation(const JsonFields& body) {
  for (const char* name :
       {"continue_final_message", "echo", "chat_template", "chat_template_kwargs", "documents"})
    body.refuse_if_used(name);
  if (!body.flag("add_generation_prompt", true)) body.not_supported("add_generation_prompt");
}

}  // namespace

Answer chat_completions(const ServeContext& context, const HttpRequest& request) {
  const ModelPtr model = context.require_model();
  const Json json = parse_json_object(request.body);
  const JsonFields body(json);
  check_model_name(body, *model);
  refuse_continuation(body);
  CompletionRequest r = sampling_request(body, *model);
  r.n_logprobs = n_logprobs(body);
  // The newer name first; both may be there with the same meaning.
  const auto newer = body.integer("max_completion_tokens", 1, INT32_MAX);
  const auto older = body.integer("max_tokens", 1, INT32_MAX);
  r.max_tok = static_cast<int>(newer ? *newer : older.value_or(-1));
  r.prompt = chat_prompt(*model, chat_messages(body, "messages"));
  check_length(r, *model);

  OpenAiReplyOptions options = stream_options(body, r);
  options.id = "chatcmpl-" + request.id;
  options.n = r.n;
  options.n_prompt_tok = {static_cast<int>(r.prompt.size())};
  CompletionJob job;
  job.parts.push_back(std::move(r));
  job.reply = std::make_unique<ChatReply>(model, std::move(options));
  return job;
}

}  // namespace hob
