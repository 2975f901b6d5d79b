#pragma once
// The endpoints. A handler sees plain data and gives an answer or work for the engine; it throws
// ApiError or hob::Error. Any thread.
#include "serve/completion_job.h"
#include "serve/openai_reply.h"
#include "serve/serve_context.h"

namespace hob {

// health.cc
Answer health(const ServeContext& context, const HttpRequest& request);
Answer ready(const ServeContext& context, const HttpRequest& request);
Answer metrics(const ServeContext& context, const HttpRequest& request);
Answer version(const ServeContext& context, const HttpRequest& request);
// openai_chat.cc, openai_completions.cc, openai_models.cc
Answer chat_completions(const ServeContext& context, const HttpRequest& request);
Answer text_completions(const ServeContext& context, const HttpRequest& request);
Answer list_models(const ServeContext& context, const HttpRequest& request);
Answer show_model(const ServeContext& context, const HttpRequest& request);
// tokenize.cc
Answer tokenize(const ServeContext& context, const HttpRequest& request);
Answer detokenize(const ServeContext& context, const HttpRequest& request);
Answer tokenizer_info(const ServeContext& context, const HttpRequest& request);
// ollama_info.cc
Answer ollama_root(const ServeContext& context, const HttpRequest& request);
Answer ollama_version(const ServeContext& context, const HttpRequest& request);
Answer ollama_tags(const ServeContext& context, const HttpRequest& request);
Answer ollama_show(const ServeContext& context, const HttpRequest& request);
Answer ollama_ps(const ServeContext& context, const HttpRequest& request);
// ollama.cc
Answer ollama_chat(const ServeContext& context, const HttpRequest& request);
Answer ollama_generate(const ServeContext& context, const HttpRequest& request);

// stream, stream_options and what the reply needs of logprobs: common to OpenAI's endpoints.
inline constexpr const char* kHobVersion = "0.1.0";

OpenAiReplyOptions stream_options(const JsonFields& body, const CompletionRequest& request);
HttpReply json_reply(const OrderedJson& body, int status = 200);

}  // namespace hob
