#pragma once
// A parsed request: what the engine is to do, and how its answers become a reply.
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/completion.h"
#include "serve/api_error.h"
#include "serve/http_types.h"

namespace hob {

// Turns the engine's news into a reply: either a stream, or one body when all is there. One thread
// at a time.
class ReplyBuilder {
 public:
  virtual ~ReplyBuilder() = default;

  // `part`: index into CompletionJob::parts.
  virtual void on_prompt_logprobs(int part, std::vector<TokenLogprob> logprobs) = 0;
  virtual void on_delta(int part, CompletionDelta delta) = 0;
  // The last call: every part has ended. Usage is the sum over the parts.
  virtual void on_end(const CompletionUsage& usage) = 0;
  // Or this: the request has failed. A stream that has begun says so inside.
  virtual void on_error(const ApiError& error) = 0;

  virtual bool streams() const = 0;
  virtual ErrorShape error_shape() const = 0;
  // Status, content type and headers; for a reply that does not stream also the body, after
  // on_end().
  virtual HttpReply reply() = 0;
  // Of a stream: the bytes since the last call.
  std::string take_output() { return std::exchange(output_, {}); }
  bool has_output() const { return !output_.empty(); }
  // Something of the answer has gone into the stream: an error must go there as well.
  virtual bool begun() const = 0;
  // Keeps proxies and clients patient while nothing can be said; "" = this format has none.
  virtual std::string ping() const { return {}; }

 protected:
  std::string output_;
};

struct CompletionJob {
  // Several prompts in one request: a part each. Their ids are set by whoever submits them.
  std::vector<CompletionRequest> parts;
  std::unique_ptr<ReplyBuilder> reply;
  std::string model_name;  // for metrics
};

// What a handler gives: an answer, or work.
using Answer = std::variant<HttpReply, CompletionJob>;

}  // namespace hob
