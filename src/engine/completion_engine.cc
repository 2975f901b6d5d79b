#include "engine/completion_engine.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <new>
#include <random>
#include <thread>
#include <unordered_map>

#include "base/error.h"
#include "base/hash.h"
#include "base/thread.h"
#include "engine/model_session.h"
#include "engine/request_check.h"
#include "engine/serving_loop.h"

namespace hob {
namespace {

// Of all that KV values depend on besides tokens and the request's salt. Seeded, so that nobody
// outside can make two salts meet.
uint64_t scope_seed(const ModelSession& session, uint64_t random) {
  const PrecisionOptions& p = session.options().precision;
  const float values[] = {static_cast<float>(p.mode),
                          p.q1,
                          p.q2,
                          p.t1.value_or(-1.f),
                          p.t2.value_or(-1.f),
                          static_cast<float>(p.strict),
                          static_cast<float>(session.options().kv)};
  Hash64 hash;
  hash.add(std::as_bytes(std::span(&random, 1)));
  hash.add(std::as_bytes(std::span(values)));
  return hash.value();
}

// Sequences that can run together: each wants a row and a row of logits in every step.
int usable_seqs(const EngineLimits& limits, int wanted) {
  return std::max(1, std::min({wanted, limits.max_rows, limits.max_logit_rows, 0xFFFF}));
}

ServingSetup make_setup(ModelSession& session, const Tokenizer& tokenizer,
                        const CompletionEngineOptions& options) {
  Engine& engine = session.engine();
  const EngineLimits& limits = engine.limits();
  ServingSetup setup;
  setup.engine = &engine;
  setup.experts = session.experts();
  setup.tokenizer = &tokenizer;
  setup.limits = {.max_rows = limits.max_rows,
                  .max_logit_rows = limits.max_logit_rows,
                  .max_seqs = usable_seqs(limits, options.max_seqs)};
  setup.max_model_len = std::min(limits.n_ctx, engine.kv().n_blocks() * kKvBlock);
  setup.kv_reserve = options.kv_reserve;
  setup.speculator = options.speculator;
  setup.draft_batching = options.draft_batching;
  setup.step_floor_s = options.step_floor_s;
  setup.scope_seed = scope_seed(session, std::random_device{}());
  return setup;
}

}  // namespace

struct CompletionEngine::Impl {
  using Clock = std::chrono::steady_clock;
  struct Submission {
    CompletionRequest request;
    std::shared_ptr<CompletionSink> sink;
    TimePoint at;
  };
  struct Order {  // for a request whose client drafts
    std::string id;
    std::optional<DraftOffer> draft;  // none: self_decoding is meant
    bool self_decoding = false;
    TimePoint at = Clock::now();  // a step may be running: it is read when that has ended
  };

  Impl(ModelSession& session_, const Tokenizer& tokenizer, const CompletionEngineOptions& options_)
      : session(session_), options(options_), setup(make_setup(session_, tokenizer, options_)) {
    limits = {.n_vocab = session.engine().n_vocab(),
              .max_model_len = setup.max_model_len,
              .n_ctx = session.engine().limits().n_ctx,
              .max_seqs = options.kv_reserve == KvReserve::kNone ? setup.limits.max_seqs : 1};
  }

  void main();
  void pause_if_stuck(const ServingLoop& loop);
  bool waits_for_drafts(ServingLoop& loop);
  bool take_inbox(ServingLoop& loop);
  void watch_memory();
  void end_thread();
  void send(Order order);
  void apply_budget(ServingLoop& loop);
  void started(const std::string& id);
  void ended(const std::string& id, const ServingLoop& loop);
  std::optional<Refused> refuse(const CompletionRequest& request) const;

  ModelSession& session;
  const CompletionEngineOptions options;
  const ServingSetup setup;
  RequestLimits limits;

  mutable std::mutex mutex;
  std::condition_variable wake;
  // Under the mutex:
  std::vector<Submission> inbox;
  std::vector<std::string> cancels;
  std::vector<Order> orders;
  std::optional<uint64_t> expert_budget;  // to apply before the next step
  bool draining = false, stopping = false;
  struct Live {
    bool started = false;
    int n = 1;
  };
  std::unordered_map<std::string, Live> live;  // accepted and not ended
  int n_waiting = 0;                           // requests that never ran
  int n_places_taken = 0;                      // choices of those that did
  double end_interval_s = 1;                   // mean time between two ends of requests
  TimePoint last_end;
  ServeStats stats;

  std::thread thread;                      // sees the rest complete
  std::unique_ptr<MemoryMonitor> monitor;  // last: its orders need the rest
};

void CompletionEngine::Impl::started(const std::string& id) {
  const std::lock_guard lock(mutex);
  Live& l = live.at(id);
  l.started = true;
  n_waiting--;
  n_places_taken += l.n;
}

// Before its sink learns of it: who has an answer finds it in the measurements.
void CompletionEngine::Impl::ended(const std::string& id, const ServingLoop& loop) {
  constexpr double kWeight = 0.2;  // of the newest interval: about the last five ends count
  const std::lock_guard lock(mutex);
  stats = loop.stats();
  const auto it = live.find(id);
  if (it->second.started) {
    n_places_taken -= it->second.n;
    const TimePoint now = Clock::now();
    if (last_end != TimePoint())
      end_interval_s +=
          kWeight * (std::chrono::duration<double>(now - last_end).count() - end_interval_s);
    last_end = now;
  } else {
    n_waiting--;
  }
  std::erase(cancels, id);  // not for a later request of the same id
  std::erase_if(orders, [&](const Order& o) { return o.id == id; });
  live.erase(it);
}

// Waits while there is nothing to do. False: the end.
bool CompletionEngine::Impl::take_inbox(ServingLoop& loop) {
  std::vector<Submission> new_requests;
  std::vector<std::string> cancelled;
  std::vector<Order> new_orders;
  {
    std::unique_lock lock(mutex);
    stats = loop.stats();
    const auto something = [&] {
      return stopping || !inbox.empty() || !cancels.empty() || !orders.empty() || expert_budget ||
             loop.has_work();
    };
    if (const std::optional<TimePoint> deadline = loop.next_deadline())
      wake.wait_until(lock, *deadline, something);
    else
      wake.wait(lock, something);
    if (stopping) return false;
    new_requests.swap(inbox);
    cancelled.swap(cancels);
    new_orders.swap(orders);
  }
  for (Submission& s : new_requests) loop.add(std::move(s.request), std::move(s.sink), s.at);
  for (const std::string& id : cancelled) loop.cancel(id);
  for (Order& o : new_orders) {
    if (o.draft)
      loop.offer_draft(o.id, std::move(*o.draft), o.at);
    else
      loop.set_self_decoding(o.id, o.self_decoding);
  }
  return true;
}

void CompletionEngine::Impl::watch_memory() {
  if (!options.memory.enabled || !session.experts()) return;
  monitor = std::make_unique<MemoryMonitor>(*session.experts(), options.memory, [this](uint64_t b) {
    {
      const std::lock_guard lock(mutex);
      expert_budget = b;
    }
    wake.notify_all();
  });
}

void CompletionEngine::Impl::apply_budget(ServingLoop& loop) {
  std::optional<uint64_t> budget;
  {
    const std::lock_guard lock(mutex);
    budget.swap(expert_budget);
  }
  try {
    if (budget) loop.set_expert_budget(*budget);
  } catch (const std::bad_alloc&) {  // the monitor sees it and orders again
  }
}

// Requests, but no rows: the scheduler promises that this does not last. Should it, the machine
// stays usable and a cancel or a deadline ends it.
void CompletionEngine::Impl::pause_if_stuck(const ServingLoop& loop) {
  if (!loop.has_work()) return;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, std::chrono::milliseconds(5),
                [&] { return stopping || !cancels.empty() || !orders.empty(); });
}

// True: something may have come meanwhile.
bool CompletionEngine::Impl::waits_for_drafts(ServingLoop& loop) {
  const double seconds = loop.draft_wait_s(Clock::now());
  if (seconds <= 0) return false;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, std::chrono::duration<double>(seconds), [&] {
    return stopping || !inbox.empty() || !cancels.empty() || !orders.empty() || expert_budget;
  });
  return true;
}

void CompletionEngine::Impl::main() {
  session.backend().pin_engine_thread();
  ServingLoop loop(setup);
  loop.on_started = [this](const std::string& id) { started(id); };
  loop.on_ended = [&](const std::string& id) { ended(id, loop); };
  while (take_inbox(loop)) {
    try {
      apply_budget(loop);
      if (waits_for_drafts(loop)) continue;
      if (!loop.step(Clock::now())) pause_if_stuck(loop);
    } catch (...) {
      loop.end_all(FinishReason::kError, std::current_exception());
    }
  }
  loop.end_all(FinishReason::kCancelled);
  std::vector<Submission> late;
  {
    const std::lock_guard lock(mutex);
    late.swap(inbox);
  }
  for (Submission& s : late) loop.add(std::move(s.request), std::move(s.sink), s.at);
  loop.end_all(FinishReason::kCancelled);
  const std::lock_guard lock(mutex);
  stats = loop.stats();
}

// Under the mutex.
std::optional<Refused> CompletionEngine::Impl::refuse(const CompletionRequest& request) const {
  if (draining || stopping)
    return Refused{Refusal::kDraining, "[server] expected requests before the end, shutting down",
                   0};
  if (live.contains(request.id))
    return Refused{Refusal::kInvalid,
                   fmt::format("[id] expected an id that is not running, got {}", request.id), 0};
  const int n_free_places = std::max(0, setup.limits.max_seqs - n_places_taken);
  if (n_waiting < options.max_queue + n_free_places) return std::nullopt;
  return Refused{Refusal::kQueueFull,
                 fmt::format("[queue] expected at most {} waiting requests, {} wait",
                             options.max_queue, n_waiting),
                 std::clamp(end_interval_s, 0.1, 600.0)};
}

CompletionEngine::CompletionEngine(ModelSession& session, const Tokenizer& tokenizer,
                                   const CompletionEngineOptions& options)
    : impl_(std::make_unique<Impl>(session, tokenizer, options)) {
  impl_->thread = start_thread("the engine", [m = impl_.get()] { m->main(); });
  try {
    impl_->watch_memory();
  } catch (...) {
    impl_->end_thread();
    throw;
  }
}

CompletionEngine::~CompletionEngine() { impl_->end_thread(); }

void CompletionEngine::Impl::end_thread() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  wake.notify_all();
  thread.join();
}

std::optional<Refused> CompletionEngine::submit(CompletionRequest request,
                                                std::shared_ptr<CompletionSink> sink) {
  if (std::optional<Refused> refused = check_request(request, impl_->limits)) return refused;
  {
    const std::lock_guard lock(impl_->mutex);
    if (std::optional<Refused> refused = impl_->refuse(request)) return refused;
    impl_->live[request.id] = {.started = false, .n = request.n};
    impl_->n_waiting++;
    impl_->inbox.push_back({std::move(request), std::move(sink), Impl::Clock::now()});
  }
  impl_->wake.notify_all();
  return std::nullopt;
}

void CompletionEngine::cancel(const std::string& id) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (!impl_->live.contains(id)) return;
    impl_->cancels.push_back(id);
  }
  impl_->wake.notify_all();
}

void CompletionEngine::Impl::send(Order order) {
  {
    const std::lock_guard lock(mutex);
    if (!live.contains(order.id)) return;
    orders.push_back(std::move(order));
  }
  wake.notify_all();
}

void CompletionEngine::offer_draft(const std::string& id, DraftOffer offer) {
  impl_->send({.id = id, .draft = std::move(offer)});
}

void CompletionEngine::set_self_decoding(const std::string& id, bool on) {
  impl_->send({.id = id, .draft = std::nullopt, .self_decoding = on});
}

void CompletionEngine::drain() {
  const std::lock_guard lock(impl_->mutex);
  impl_->draining = true;
}

bool CompletionEngine::idle() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->live.empty();
}

ServeStats CompletionEngine::stats() const {
  const std::lock_guard lock(impl_->mutex);
  ServeStats s = impl_->stats;
  s.n_waiting += static_cast<int>(impl_->inbox.size());
  return s;
}

int CompletionEngine::max_model_len() const { return impl_->limits.max_model_len; }

}  // namespace hob
