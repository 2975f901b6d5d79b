#include "engine/choice_output.h"

#include <algorithm>

#include "base/error.h"

namespace hob {

ChoiceOutput::ChoiceOutput(const CompletionRequest& request, const Tokenizer& tokenizer, int choice,
                           int max_tok)
    : request_(&request),
      tokenizer_(&tokenizer),
      max_tok_(max_tok),
      detokenizer_(tokenizer, !request.skip_special_tokens),
      matcher_(request.stop, request.include_stop) {
  delta_.choice = choice;
  detokenizer_.push(request.prompt.back());  // the answer continues a text: see Detokenizer
}

bool ChoiceOutput::is_stop_token(int32_t token) const {
  const std::vector<int32_t>& ids = request_->stop_token_ids;
  return (!request_->ignore_eos && tokenizer_->is_end(token)) ||
         std::find(ids.begin(), ids.end(), token) != ids.end();
}

void ChoiceOutput::add(int32_t token, std::optional<TokenLogprob> logprob) {
  HOB_CHECK(!finished());
  // A stop string must not be complete before the token after the first min_tok (vLLM's rule).
  const bool may_stop = may_end();
  n_tok_++;
  delta_.tokens.push_back(token);
  if (logprob) delta_.logprobs.push_back(std::move(*logprob));
  const bool is_stop = is_stop_token(token);
  if (!is_stop || request_->include_stop)
    delta_.text += matcher_.push(detokenizer_.push(token), may_stop);
  if (matcher_.stopped() || is_stop)
    end(FinishReason::kStop);
  else if (n_tok_ >= max_tok_)
    end(FinishReason::kLength);
}

void ChoiceOutput::end(FinishReason reason) {
  if (finished()) return;
  finish_ = delta_.finish = reason;
  if (n_tok_ > 0) flush();
}

void ChoiceOutput::flush() {
  delta_.text += matcher_.push(detokenizer_.finish());
  if (!matcher_.stopped()) delta_.text += matcher_.finish();
}

bool ChoiceOutput::has_news() const {
  return !delta_.tokens.empty() || !delta_.text.empty() || delta_.finish;
}

CompletionDelta ChoiceOutput::take_delta() {
  CompletionDelta out = std::move(delta_);
  delta_ = {};
  delta_.choice = out.choice;
  return out;
}

}  // namespace hob
