#include "serve/completion_call.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/clock.h"

namespace hob {

ApiError as_api_error(const Refused& refused) {
  switch (refused.why) {
    case Refusal::kQueueFull: {
      ApiError error(429, refused.message, "", "queue_full");
      error.retry_after_s =
          static_cast<int>(std::clamp(std::ceil(refused.retry_after_s), 1.0, 600.0));
      return error;
    }
    case Refusal::kTooLong:
      return ApiError(400, refused.message, "", "context_length_exceeded");
    case Refusal::kDraining: {
      ApiError error(503, refused.message, "", "shutting_down");
      error.retry_after_s = 5;
      return error;
    }
    case Refusal::kInvalid:
      break;
  }
  return ApiError(400, refused.message);
}

CompletionCall::CompletionCall(CompletionService& service, Metrics& metrics, CompletionJob job,
                               const CallOptions& options, std::function<void()> wake)
    : service_(&service),
      metrics_(&metrics),
      job_(std::move(job)),
      channel_(std::make_shared<CompletionChannel>(options.max_buffered_bytes, std::move(wake))),
      parts_(job_.parts.size()),
      start_ns_(now_ns()) {
  try {
    submit_all(options);
  } catch (...) {
    channel_->close();
    cancel_all();
    throw;
  }
}

CompletionCall::~CompletionCall() {
  channel_->close();
  cancel_all();
}

void CompletionCall::submit_all(const CallOptions& options) {
  for (size_t i = 0; i < parts_.size(); i++) {
    CompletionRequest request = std::move(job_.parts[i]);
    Part& part = parts_[i];
    part.id = request.id = options.id + "." + std::to_string(i);
    part.max_tok = request.max_tok;
    part.n = request.n;
    request.tenant = options.tenant;
    if (options.deadline_s > 0)
      request.deadline =
          std::chrono::steady_clock::now() + std::chrono::seconds(options.deadline_s);
    if (const auto refused =
            service_->submit(std::move(request), channel_->sink(static_cast<int>(i))))
      throw as_api_error(*refused);
    part.running = true;
    n_running_++;
  }
}

void CompletionCall::cancel_all() {
  for (Part& part : parts_)
    if (std::exchange(part.running, false)) service_->cancel(part.id);
}

void CompletionCall::pump() {
  if (ended_) return;
  if (overflowed())
    return fail_with(ApiError(503, "the client reads too slowly: its buffer is full"));
  for (CompletionEvent& event : channel_->take()) {
    if (ended_) return;
    if (auto* delta = std::get_if<CompletionDelta>(&event.what))
      take_delta(event, std::move(*delta));
    else if (auto* logprobs = std::get_if<std::vector<TokenLogprob>>(&event.what))
      job_.reply->on_prompt_logprobs(event.part, std::move(*logprobs));
    else
      take_end(event.part, std::get<CompletionEnd>(event.what), event.at_ns);
  }
}

void CompletionCall::take_delta(const CompletionEvent& event, CompletionDelta delta) {
  Part& part = parts_[static_cast<size_t>(event.part)];
  if (!delta.tokens.empty()) {
    if (std::exchange(part.has_token, true))
      metrics_->inter_token(event.at_ns - part.last_token_ns);
    else
      metrics_->first_token(event.at_ns - start_ns_);
    part.last_token_ns = event.at_ns;
  }
  if (delta.finish) part.finish = *delta.finish;
  if (delta.finish == FinishReason::kDeadline)
    return fail_with(ApiError(504, "the time limit of this request has passed", "", "deadline"));
  if (delta.finish == FinishReason::kCancelled) {
    // Not by this client, which would not be here any more.
    ApiError error(503, "the request was cancelled: the server is stopping", "", "shutting_down");
    error.retry_after_s = 5;
    return fail_with(error);
  }
  if (delta.finish != FinishReason::kError)  // what went wrong comes with the end
    job_.reply->on_delta(event.part, std::move(delta));
}

void CompletionCall::take_end(int index, const CompletionEnd& end, int64_t at_ns) {
  Part& part = parts_[static_cast<size_t>(index)];
  part.running = false;
  n_running_--;
  metrics_->finished({.usage = end.usage,
                      .finish = end.error ? FinishReason::kError : part.finish,
                      .e2e_ns = at_ns - start_ns_,
                      .max_tok = part.max_tok,
                      .n = part.n});
  if (end.error) return fail_with(as_api_error(end.error));
  usage_.n_prompt_tok += end.usage.n_prompt_tok;
  usage_.n_cached_tok += end.usage.n_cached_tok;
  usage_.n_completion_tok += end.usage.n_completion_tok;
  usage_.n_preemptions += end.usage.n_preemptions;
  usage_.n_unverified_tok += end.usage.n_unverified_tok;
  usage_.queue_s = std::max(usage_.queue_s, end.usage.queue_s);
  usage_.prefill_s = std::max(usage_.prefill_s, end.usage.prefill_s);
  usage_.decode_s = std::max(usage_.decode_s, end.usage.decode_s);
  if (n_running_ > 0) return;
  ended_ = true;
  job_.reply->on_end(usage_);
}

void CompletionCall::fail_with(const ApiError& error) {
  ended_ = true;
  error_ = error;
  cancel_all();
  job_.reply->on_error(error);
}

}  // namespace hob
