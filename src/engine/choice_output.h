#pragma once
// What one choice of a request has said so far: tokens to text, and whether it is over.
#include <optional>

#include "engine/completion.h"
#include "text/stop_matcher.h"
#include "text/tokenizer.h"

namespace hob {

// Engine thread only. Borrows both.
class ChoiceOutput {
 public:
  // `max_tok`: after so many tokens it ends with kLength.
  ChoiceOutput(const CompletionRequest& request, const Tokenizer& tokenizer, int choice,
               int max_tok);

  // Must not be called once finished().
  void add(int32_t token, std::optional<TokenLogprob> logprob);
  void end(FinishReason reason);  // from outside; nothing if it is finished
  bool finished() const { return finish_.has_value(); }
  std::optional<FinishReason> finish_reason() const { return finish_; }
  int n_tok() const { return n_tok_; }
  int n_left() const { return max_tok_ - n_tok_; }
  // Before min_tok nothing may end the answer. n_more: tokens that are decided but not added yet.
  bool may_end(int n_more = 0) const { return n_tok_ + n_more >= request_->min_tok; }
  bool has_news() const;
  CompletionDelta take_delta();  // what was added since the last one

 private:
  bool is_stop_token(int32_t token) const;
  void flush();

  const CompletionRequest* request_;
  const Tokenizer* tokenizer_;
  int max_tok_;
  Detokenizer detokenizer_;
  StopMatcher matcher_;
  int n_tok_ = 0;
  std::optional<FinishReason> finish_;
  CompletionDelta delta_;
};

}  // namespace hob
