#pragma once
// Replies of /v1/chat/completions and /v1/completions, streamed or whole.
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/completion_job.h"
#include "serve/json_body.h"
#include "serve/request_fields.h"

namespace hob {

struct OpenAiReplyOptions {
  std::string id;  // "chatcmpl-...": of the reply
  bool stream = false;
  bool include_usage = false;     // stream: a last chunk with the usage
  bool continuous_usage = false;  // stream: in every chunk
  bool logprobs = false;
  bool tokens_as_ids = false;     // logprobs name tokens "token_id:17"
  int n = 1;                      // choices per part
  std::vector<int> n_prompt_tok;  // of each part
};

// What both endpoints have in common: choices, usage, errors inside streams.
class OpenAiReply : public ReplyBuilder {
 public:
  OpenAiReply(ModelPtr model, OpenAiReplyOptions options);

  void on_prompt_logprobs(int part, std::vector<TokenLogprob> logprobs) override;
  void on_delta(int part, CompletionDelta delta) final;
  void on_end(const CompletionUsage& usage) final;
  void on_error(const ApiError& error) final;
  bool streams() const final { return options_.stream; }
  ErrorShape error_shape() const final { return ErrorShape::kOpenAi; }
  bool begun() const final { return begun_; }
  HttpReply reply() final;
  std::string ping() const final;

 protected:
  struct Choice {
    std::string text;
    std::vector<TokenLogprob> logprobs;
    std::vector<TokenLogprob> prompt_logprobs;
    bool started = false;
    int n_tok = 0;
    size_t n_chars = 0;  // of the text so far, for offsets
    std::optional<FinishReason> finish;
  };

  virtual const char* chunk_kind() const = 0;  // "chat.completion.chunk"
  virtual const char* whole_kind() const = 0;
  // Of a stream: what goes out for this delta. The first of a choice comes with `choice.started`
  // false.
  virtual void stream_delta(int index, Choice& choice, const CompletionDelta& delta) = 0;
  virtual OrderedJson whole_choice(int index, const Choice& choice) const = 0;

  // Emits one chunk with one choice.
  void emit_choice(OrderedJson choice);
  const LoadedModel& model() const { return *model_; }
  const OpenAiReplyOptions& options() const { return options_; }
  int part_of(int index) const { return index / options_.n; }
  OrderedJson prompt_logprobs_json(const Choice& choice) const;

 private:
  OrderedJson head(const char* kind) const;
  OrderedJson usage_json(const CompletionUsage& usage) const;
  static OrderedJson remark_on(const CompletionDelta& delta);

  ModelPtr model_;
  OpenAiReplyOptions options_;
  std::time_t created_;
  std::vector<Choice> choices_;
  CompletionUsage usage_;
  bool begun_ = false;
  OrderedJson remark_;  // of the delta that is being streamed; null = none
};

// "stop", "length"
const char* finish_name(FinishReason reason);

}  // namespace hob
