#include "engine/request_check.h"

#include "base/error.h"
#include "text/unicode.h"

namespace hob {
namespace {

constexpr float kMaxBias = 1e6f;

template <class... Args>
void refuse_unless(bool ok, fmt::format_string<Args...> format, Args&&... args) {
  if (!ok) fail(Code::kInvalidArgument, format, std::forward<Args>(args)...);
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const int n = utf8_sequence_length(text.substr(0, 4));
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void check_token(const char* name, int32_t token, int n_vocab) {
  refuse_unless(token >= 0 && token < n_vocab, "[{}] expected token ids in [0, {}), got {}", name,
                n_vocab, token);
}

void check_counts(const CompletionRequest& r, const RequestLimits& limits) {
  refuse_unless(r.n >= 1 && r.n <= limits.max_seqs,
                "[n] expected 1 to {} choices (--max-seqs; 1 with --kv-reserve), got {}",
                limits.max_seqs, r.n);
  refuse_unless(!r.client_drafts || (r.n == 1 && r.max_tok != 0 && r.n_prompt_logprobs < 0),
                "[drafts] expected one choice of one token at least and no prompt_logprobs where "
                "the client drafts");
  refuse_unless(r.max_tok >= -1, "[max_tokens] expected 0 or more, got {}", r.max_tok);
  refuse_unless(r.min_tok >= 0, "[min_tokens] expected 0 or more, got {}", r.min_tok);
  refuse_unless(r.max_tok < 0 || r.min_tok <= r.max_tok,
                "[min_tokens] expected at most max_tokens = {}, got {}", r.max_tok, r.min_tok);
  refuse_unless(r.n_logprobs >= -1 && r.n_logprobs <= limits.n_vocab,
                "[logprobs] expected 0 to {}, got {}", limits.n_vocab, r.n_logprobs);
  refuse_unless(r.n_prompt_logprobs >= -1 && r.n_prompt_logprobs <= limits.n_vocab,
                "[prompt_logprobs] expected 0 to {}, got {}", limits.n_vocab, r.n_prompt_logprobs);
}

void check_parameters(const CompletionRequest& r, const RequestLimits& limits) {
  refuse_unless(!r.prompt.empty(), "[prompt] expected at least one token, got none");
  for (int32_t t : r.prompt) check_token("prompt", t, limits.n_vocab);
  check_counts(r, limits);
  r.sampling.check();
  for (const std::string& s : r.stop)
    refuse_unless(!s.empty() && is_utf8(s), "[stop] expected strings of UTF-8, got {}",
                  s.empty() ? "an empty one" : "broken bytes");
  for (int32_t t : r.stop_token_ids) check_token("stop_token_ids", t, limits.n_vocab);
  for (const auto& [token, bias] : r.logit_bias) {
    check_token("logit_bias", token, limits.n_vocab);
    // -inf bans a token. The upper limit keeps sums of logit and biases finite.
    refuse_unless(bias <= kMaxBias, "[logit_bias] expected at most {}, token {} has {}", kMaxBias,
                  token, bias);
  }
}

}  // namespace

std::optional<Refused> check_request(const CompletionRequest& request,
                                     const RequestLimits& limits) {
  try {
    check_parameters(request, limits);
  } catch (const Error& e) {
    return Refused{Refusal::kInvalid, e.what(), 0};
  }
  const size_t n_new = request.max_tok == 0 ? 0 : 1;
  if (request.prompt.size() + n_new > static_cast<size_t>(limits.max_model_len))
    return Refused{
        Refusal::kTooLong,
        fmt::format("[context] expected at most {} tokens, prompt and answer together ({}), got "
                    "{} of prompt and at least {} of answer",
                    limits.max_model_len,
                    limits.max_model_len < limits.n_ctx
                        ? fmt::format("KV memory holds no more; --ctx {}", limits.n_ctx)
                        : "--ctx",
                    request.prompt.size(), n_new),
        0};
  return std::nullopt;
}

}  // namespace hob
