#pragma once
// Fields that several endpoints share, checked and translated.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/completion.h"
#include "serve/json_body.h"
#include "serve/served_model.h"

namespace hob {

using ModelPtr = std::shared_ptr<const LoadedModel>;

inline constexpr int kMaxChoices = 128;
inline constexpr int kMaxLogprobs = 20;
inline constexpr int kMaxStops = 64;
inline constexpr size_t kMaxStopBytes = 1024;

// 404 when `model` is named and is another one.
void check_model_name(const JsonFields& body, const LoadedModel& model);

// n, sampling, stops, seed, logit_bias and vLLM's additions; not max_tokens, prompt and logprobs.
// Everything that would change the answer and is not there yet is refused.
CompletionRequest sampling_request(const JsonFields& body, const LoadedModel& model);

float top_p(const JsonFields& fields, float otherwise);
float repetition_penalty(const JsonFields& fields, const char* name, float otherwise);
std::vector<std::string> stop_strings(const JsonFields& fields, const char* name);
// Random when the client gave none.
uint64_t seed_or_random(std::optional<int64_t> seed);

// Checks prompt and max_tok against the context, with the numbers; fills in what -1 means.
void check_length(CompletionRequest& request, const LoadedModel& model);

// OpenAI's "messages": roles system, developer, user, assistant; content a string or a list of text
// parts.
std::vector<ChatMessage> chat_messages(const JsonFields& body, const char* name);
std::vector<TokenId> chat_prompt(const LoadedModel& model,
                                 const std::vector<ChatMessage>& messages);

}  // namespace hob
