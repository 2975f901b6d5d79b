#include "serve/completion_channel.h"

#include "base/clock.h"

namespace hob {
namespace {

size_t bytes_of(const std::vector<TokenLogprob>& logprobs) {
  size_t n = 0;
  for (const TokenLogprob& l : logprobs) n += sizeof l + l.top.size() * sizeof l.top[0];
  return n;
}

size_t bytes_of(const CompletionEvent& event) {
  size_t n = sizeof event;
  if (const auto* delta = std::get_if<CompletionDelta>(&event.what))
    n += delta->text.size() + delta->tokens.size() * sizeof(int32_t) + bytes_of(delta->logprobs);
  if (const auto* logprobs = std::get_if<std::vector<TokenLogprob>>(&event.what))
    n += bytes_of(*logprobs);
  return n;
}

}  // namespace

class CompletionChannel::Sink : public CompletionSink {
 public:
  Sink(std::shared_ptr<CompletionChannel> channel, int part)
      : channel_(std::move(channel)), part_(part) {}

  void on_prefill(int, int) override {}  // nothing to say: pings run on the clock
  void on_prompt_logprobs(std::vector<TokenLogprob> logprobs) override {
    channel_->push({part_, now_ns(), std::move(logprobs)});
  }
  void on_delta(CompletionDelta delta) override {
    channel_->push({part_, now_ns(), std::move(delta)});
  }
  void on_end(const CompletionUsage& usage, std::exception_ptr error) override {
    channel_->push({part_, now_ns(), CompletionEnd{usage, std::move(error)}});
  }

 private:
  std::shared_ptr<CompletionChannel> channel_;
  int part_;
};

CompletionChannel::CompletionChannel(size_t max_bytes, std::function<void()> wake)
    : max_bytes_(max_bytes), wake_(std::move(wake)) {}

std::shared_ptr<CompletionSink> CompletionChannel::sink(int part) {
  return std::make_shared<Sink>(shared_from_this(), part);
}

void CompletionChannel::push(CompletionEvent event) {
  // wake_ is called under the lock, so that close() means: never again.
  std::lock_guard lock(mutex_);
  if (closed_) return;
  const bool first = events_.empty() && !overflowed_;
  const bool is_end = std::holds_alternative<CompletionEnd>(event.what);
  const size_t n = bytes_of(event);
  // The end is small and there is one per part: it always fits. One event may exceed the limit by
  // itself (prompt logprobs), when nothing else waits.
  if (overflowed_ && !is_end) return;
  if (!is_end && n_bytes_ > 0 && n_bytes_ + n > max_bytes_) {
    overflowed_ = true;
    wake_();
    return;
  }
  n_bytes_ += n;
  events_.push_back(std::move(event));
  if (first) wake_();
}

std::vector<CompletionEvent> CompletionChannel::take() {
  std::lock_guard lock(mutex_);
  n_bytes_ = 0;
  return std::exchange(events_, {});
}

bool CompletionChannel::overflowed() const {
  std::lock_guard lock(mutex_);
  return overflowed_;
}

void CompletionChannel::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  events_.clear();
  n_bytes_ = 0;
}

}  // namespace hob
