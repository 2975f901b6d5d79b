#pragma once
// A job while it runs: submitted to the engine, its events turned into the reply. Destroying it
// cancels what is left.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/completion_channel.h"
#include "serve/completion_job.h"
#include "serve/completion_service.h"
#include "serve/metrics.h"

namespace hob {

struct CallOptions {
  std::string id;      // unique: the engine's ids begin with it
  std::string tenant;  // for fairness
  size_t max_buffered_bytes = 1 << 20;
  int deadline_s = 0;  // 0 = none
};

class CompletionCall {
 public:
  // Throws ApiError when the engine refuses a part; then nothing of the job remains.
  CompletionCall(CompletionService& service, Metrics& metrics, CompletionJob job,
                 const CallOptions& options, std::function<void()> wake);
  ~CompletionCall();
  CompletionCall(const CompletionCall&) = delete;
  CompletionCall& operator=(const CompletionCall&) = delete;

  void pump();  // hands everything that has arrived to the reply
  bool ended() const { return ended_; }
  // The client reads too slowly and its buffer is full.
  bool overflowed() const { return channel_->overflowed(); }
  // How it failed, once ended; the reply has been told too.
  const std::optional<ApiError>& error() const { return error_; }
  ReplyBuilder& reply() { return *job_.reply; }

 private:
  struct Part {
    std::string id;
    bool running = false;
    int64_t last_token_ns = 0;
    bool has_token = false;
    int max_tok = -1, n = 1;
    FinishReason finish = FinishReason::kCancelled;
  };
  void submit_all(const CallOptions& options);
  void cancel_all();
  void take_delta(const CompletionEvent& event, CompletionDelta delta);
  void take_end(int part, const CompletionEnd& end, int64_t at_ns);
  void fail_with(const ApiError& error);

  CompletionService* service_;
  Metrics* metrics_;
  CompletionJob job_;
  std::shared_ptr<CompletionChannel> channel_;
  std::vector<Part> parts_;
  CompletionUsage usage_;
  int64_t start_ns_;
  size_t n_running_ = 0;
  bool ended_ = false;
  std::optional<ApiError> error_;
};

// What a client is told about a refusal.
ApiError as_api_error(const Refused& refused);

}  // namespace hob
