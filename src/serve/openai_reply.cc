#include "serve/openai_reply.h"

#include "serve/logprobs_json.h"
#include "serve/sse.h"

namespace hob {

const char* finish_name(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

OpenAiReply::OpenAiReply(ModelPtr model, OpenAiReplyOptions options)
    : model_(std::move(model)),
      options_(std::move(options)),
      created_(std::time(nullptr)),
      choices_(options_.n_prompt_tok.size() * static_cast<size_t>(options_.n)) {
  for (int n : options_.n_prompt_tok) usage_.n_prompt_tok += n;
}

OrderedJson OpenAiReply::head(const char* kind) const {
  return {
      {"id", options_.id}, {"object", kind}, {"created", created_}, {"model", model_->facts.name}};
}

OrderedJson OpenAiReply::usage_json(const CompletionUsage& usage) const {
  OrderedJson out = {{"prompt_tokens", usage.n_prompt_tok},
                     {"completion_tokens", usage.n_completion_tok},
                     {"total_tokens", usage.n_prompt_tok + usage.n_completion_tok},
                     {"prompt_tokens_details", {{"cached_tokens", usage.n_cached_tok}}}};
  if (usage.n_unverified_tok > 0)
    out["completion_tokens_details"] = {{"unverified_tokens", usage.n_unverified_tok}};
  return out;
}

// Our own field, for clients that know an edge (docs/specedge.md).
OrderedJson OpenAiReply::remark_on(const CompletionDelta& delta) {
  if (delta.rewrites) return {{"replace", true}};
  if (delta.provisional) return {{"provisional", true}};
  return nullptr;
}

void OpenAiReply::on_prompt_logprobs(int part, std::vector<TokenLogprob> logprobs) {
  if (!logprobs.empty()) logprobs[0].rank = 0;  // nothing comes before it
  for (int i = 0; i < options_.n; i++)
    choices_[static_cast<size_t>(part * options_.n + i)].prompt_logprobs = logprobs;
}

void OpenAiReply::on_delta(int part, CompletionDelta delta) {
  const int index = part * options_.n + delta.choice;
  Choice& choice = choices_[static_cast<size_t>(index)];
  choice.n_tok += static_cast<int>(delta.tokens.size());
  usage_.n_completion_tok += static_cast<int>(delta.tokens.size());
  if (delta.finish) choice.finish = delta.finish;
  if (options_.stream) {
    remark_ = remark_on(delta);
    stream_delta(index, choice, delta);
    choice.started = true;
    return;
  }
  choice.text += delta.text;
  std::move(delta.logprobs.begin(), delta.logprobs.end(), std::back_inserter(choice.logprobs));
}

void OpenAiReply::emit_choice(OrderedJson choice) {
  begun_ = true;
  OrderedJson chunk = head(chunk_kind());
  chunk["choices"] = OrderedJson::array({std::move(choice)});
  // As OpenAI: with include_usage every chunk has the field.
  if (options_.continuous_usage)
    chunk["usage"] = usage_json(usage_);
  else if (options_.include_usage)
    chunk["usage"] = nullptr;
  if (!remark_.is_null()) chunk["hob"] = remark_;
  output_ += sse_data(dump_json(chunk));
}

void OpenAiReply::on_end(const CompletionUsage& usage) {
  usage_ = usage;
  if (!options_.stream) return;
  if (options_.include_usage) {
    OrderedJson chunk = head(chunk_kind());
    chunk["choices"] = OrderedJson::array();
    chunk["usage"] = usage_json(usage);
    output_ += sse_data(dump_json(chunk));
  }
  output_ += sse_done();
}

void OpenAiReply::on_error(const ApiError& error) {
  if (options_.stream) output_ += sse_data(error_json(error, ErrorShape::kOpenAi)) + sse_done();
}

HttpReply OpenAiReply::reply() {
  HttpReply reply;
  if (options_.stream) {
    reply.content_type = kSseType;
    reply.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    return reply;
  }
  OrderedJson body = head(whole_kind());
  body["choices"] = OrderedJson::array();
  for (size_t i = 0; i < choices_.size(); i++)
    body["choices"].push_back(whole_choice(static_cast<int>(i), choices_[i]));
  body["usage"] = usage_json(usage_);
  reply.body = dump_json(body);
  return reply;
}

std::string OpenAiReply::ping() const { return sse_ping(); }

OrderedJson OpenAiReply::prompt_logprobs_json(const Choice& choice) const {
  return vllm_prompt_logprobs(choice.prompt_logprobs, *model_->tokenizer);
}

}  // namespace hob
