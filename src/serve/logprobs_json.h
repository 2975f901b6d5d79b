#pragma once
// Logprobs in the three shapes that clients read.
#include <string>
#include <vector>

#include "engine/completion.h"
#include "serve/json_body.h"
#include "text/tokenizer.h"

namespace hob {

// Of a token for people: its text; broken UTF-8 becomes U+FFFD when it is printed.
std::string token_name(const Tokenizer& tokenizer, int32_t token, bool as_id = false);

// Chat: {"content":[{"token","logprob","bytes","top_logprobs":[...]}]}, the inner list.
OrderedJson chat_logprobs(const std::vector<TokenLogprob>& logprobs, const Tokenizer& tokenizer,
                          bool as_ids);

// Completions: {"tokens","token_logprobs","top_logprobs","text_offset"}. `n_chars` is where the
// first token begins, in characters; it is moved on.
OrderedJson text_logprobs(const std::vector<TokenLogprob>& logprobs, const Tokenizer& tokenizer,
                          size_t& n_chars, bool as_ids);

// vLLM's "prompt_logprobs": null for the first token, then {"id":{"logprob","rank",
// "decoded_token"}}.
OrderedJson vllm_prompt_logprobs(const std::vector<TokenLogprob>& logprobs,
                                 const Tokenizer& tokenizer);

// Characters of a text, broken bytes counting as one each.
size_t count_chars(std::string_view text);

}  // namespace hob
