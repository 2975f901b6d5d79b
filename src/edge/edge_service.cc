#include "edge/edge_service.h"

#include <condition_variable>
#include <thread>

#include "base/clock.h"
#include "base/thread.h"
#include "engine/request_check.h"

namespace hob::edge {

struct EdgeService::Impl {
  Impl(Connector& connector, Speculator& speculator, const Tokenizer& tokenizer,
       const EdgeLoopOptions& options_)
      : options(options_), loop(connector, speculator, tokenizer, options_, [this] { rouse(); }) {
    loop.on_ended = [this] {
      const std::lock_guard lock(mutex);
      stats = loop.stats();
    };
  }

  void main();
  void rouse();
  bool take_inbox();

  struct Submission {
    CompletionRequest request;
    std::shared_ptr<CompletionSink> sink;
  };

  const EdgeLoopOptions options;
  mutable std::mutex mutex;
  std::condition_variable wake;
  // Under the mutex:
  std::vector<Submission> inbox;
  std::vector<std::string> cancels;
  bool news = false, draining = false, stopping = false;
  int n_taken = 0;  // choices in the inbox and the loop
  EdgeStats stats;

  EdgeLoop loop;  // its thread's only
  std::thread thread;
};

void EdgeService::Impl::rouse() {
  {
    const std::lock_guard lock(mutex);
    news = true;
  }
  wake.notify_all();
}

// Waits until something has come or a time-out is due. False: the end.
bool EdgeService::Impl::take_inbox() {
  std::vector<Submission> fresh;
  std::vector<std::string> cancelled;
  {
    std::unique_lock lock(mutex);
    stats = loop.stats();
    n_taken = stats.n_running + stats.n_waiting;
    for (const Submission& s : inbox) n_taken += s.request.n;
    const auto something = [&] { return stopping || news || !inbox.empty() || !cancels.empty(); };
    const int64_t next_us = loop.next_step_us();
    if (next_us == INT64_MAX)
      wake.wait(lock, something);
    else if (next_us > 0)
      wake.wait_until(lock,
                      std::chrono::steady_clock::time_point(std::chrono::microseconds(next_us)),
                      something);
    if (stopping) return false;
    news = false;
    fresh.swap(inbox);
    cancelled.swap(cancels);
  }
  for (Submission& s : fresh) loop.add(std::move(s.request), std::move(s.sink), now_ns() / 1000);
  for (const std::string& id : cancelled) loop.cancel(id);
  return true;
}

void EdgeService::Impl::main() {
  while (take_inbox()) loop.step(now_ns() / 1000);
  loop.end_all();
}

EdgeService::EdgeService(Connector& connector, Speculator& speculator, const Tokenizer& tokenizer,
                         const EdgeLoopOptions& options)
    : impl_(std::make_unique<Impl>(connector, speculator, tokenizer, options)) {
  impl_->thread = start_thread("the drafting side", [m = impl_.get()] { m->main(); });
}

EdgeService::~EdgeService() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  impl_->thread.join();
}

std::optional<Refused> EdgeService::submit(CompletionRequest request,
                                           std::shared_ptr<CompletionSink> sink) {
  const ProtocolLimits& limits = impl_->options.session.limits;
  if (std::optional<Refused> refused =
          check_request(request, {.n_vocab = limits.n_vocab,
                                  .max_model_len = limits.max_context,
                                  .n_ctx = limits.max_context,
                                  .max_seqs = impl_->options.max_generations}))
    return refused;
  if (request.n_logprobs >= 0 || request.n_prompt_logprobs >= 0)
    return Refused{Refusal::kInvalid,
                   "[logprobs] expected none: they do not travel from the server to the edge", 0};
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->draining || impl_->stopping)
      return Refused{Refusal::kDraining, "[edge] expected requests before the end, shutting down",
                     0};
    const EdgeLoopOptions& o = impl_->options;
    if (impl_->n_taken + request.n > o.max_generations + o.max_waiting)
      return Refused{Refusal::kQueueFull,
                     fmt::format("[queue] expected at most {} waiting answers", o.max_waiting), 1};
    impl_->n_taken += request.n;
    impl_->inbox.push_back({std::move(request), std::move(sink)});
  }
  impl_->wake.notify_all();
  return std::nullopt;
}

void EdgeService::cancel(const std::string& id) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->cancels.push_back(id);
  }
  impl_->wake.notify_all();
}

void EdgeService::drain() {
  const std::lock_guard lock(impl_->mutex);
  impl_->draining = true;
}

bool EdgeService::idle() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->n_taken == 0;
}

EdgeStats EdgeService::edge_stats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->stats;
}

ServeStats EdgeService::stats() const {
  const EdgeStats e = edge_stats();
  ServeStats s;
  s.n_running = e.n_running;
  s.n_waiting = e.n_waiting;
  s.n_prompt_tok = e.n_prompt_tok;
  s.n_generated_tok = e.n_generated_tok;
  std::copy(std::begin(e.n_finished), std::end(e.n_finished), s.n_finished);
  s.speculation = {.n_drafts = e.links.n_rounds,
                   .n_draft_tok = e.links.n_nodes,
                   .n_accepted_tok = e.links.n_accepted};
  s.remote = {.is_remote = true,
              .n_rounds = e.links.n_rounds,
              .n_resumes = e.links.n_resumes,
              .n_guessed = e.links.n_guessed,
              .n_hits = e.links.n_hits,
              .n_streamed_tok = e.n_streamed_tok,
              .n_alone_tok = e.n_alone_tok,
              .n_unverified_tok = e.n_unverified_tok,
              .bytes_up = e.links.bytes_up,
              .bytes_down = e.links.bytes_down,
              .rtt_s = static_cast<double>(e.links.srtt_us) * 1e-6,
              .verify_s = static_cast<double>(e.links.verify_us) * 1e-6};
  return s;
}

int EdgeService::max_model_len() const { return impl_->options.session.limits.max_context; }

}  // namespace hob::edge
