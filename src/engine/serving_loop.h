#pragma once
// What the engine thread of a server does: requests in, steps, news to their sinks. No threads and
// no clock of its own, so that tests drive it step by step.
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/choice_output.h"
#include "engine/completion_engine.h"
#include "engine/decode_width.h"
#include "engine/draft_batching.h"
#include "engine/engine.h"
#include "engine/request_scheduler.h"
#include "engine/speculator.h"
#include "engine/tenant_book.h"
#include "kv/kv_reservation.h"

namespace hob {

using TimePoint = std::chrono::steady_clock::time_point;

struct ServingSetup {
  Engine* engine = nullptr;  // borrowed; no sequences but this loop's
  ExpertCache* experts = nullptr;
  const Tokenizer* tokenizer = nullptr;
  ServeLimits limits;
  int max_model_len = 0;
  uint64_t scope_seed = 0;  // hash of all but the salt that KV values depend on
  KvReserve kv_reserve = KvReserve::kNone;
  Speculator* speculator = nullptr;  // borrowed; null = every token is decoded by itself
  DraftBatching draft_batching = DraftBatching::kCoalesce;
  double step_floor_s = 0;
};

// Engine thread only.
class ServingLoop {
 public:
  explicit ServingLoop(const ServingSetup& setup);
  ~ServingLoop();

  // A request that passed check_request(). Its sink will get on_end().
  void add(CompletionRequest request, std::shared_ptr<CompletionSink> sink, TimePoint now);
  void cancel(const std::string& id);
  // See CompletionEngine.
  void offer_draft(const std::string& id, DraftOffer offer, TimePoint at);
  void set_self_decoding(const std::string& id, bool on);
  void end_all(FinishReason reason, std::exception_ptr error = nullptr);
  bool idle() const { return requests_.empty(); }
  // Somebody waits for a step; not so a request that waits for its client's draft.
  bool has_work() const;
  // Seconds that the next step may wait for drafts which are expected soon; 0 = it should begin.
  double draft_wait_s(TimePoint now);
  // The earliest of all requests' deadlines.
  std::optional<TimePoint> next_deadline() const;
  // Between steps; see ExpertCache::set_budget().
  void set_expert_budget(uint64_t bytes);
  // One step. False when no request could get a row. Throws only what ends all of them.
  bool step(TimePoint now);

  ServeStats stats() const;  // without what the caller counts
  // When a request first gets rows, and when it ended (before its sink hears of that).
  std::function<void(const std::string&id)> on_started, on_ended;

 private:
  struct Request;
  struct Sequence;

  // serving_loop.cc
  Sequence& add_sequence(Request& request, int choice);
  void remove(Sequence& s);
  void note_streaming();
  void expire(TimePoint now);
  void end_request(Request& request, FinishReason reason, std::exception_ptr error);
  void finish_if_done(Request& request);
  void send(Request& request, int choice, std::optional<int> n_draft_nodes = std::nullopt);
  double seconds(TimePoint t) const;

  // serving_step.cc
  ScheduleResult plan(TimePoint now);
  RequestView view(const Sequence& s) const;
  int reserve_size(const Request& r) const;
  static int n_logits(const Sequence& s);
  static bool held(const Sequence& s);
  Sequence* client_sequence(const std::string& id);
  void take_offer(Sequence& s);
  void note_offer(Sequence& s, bool sent_ahead, TimePoint now);
  void preempt(Sequence& s, TimePoint now);
  bool admit(Sequence& s, TimePoint now);
  void bind(Sequence& s, int engine_seq);
  std::vector<RowPlan> engine_rows(const ScheduleResult& result);
  void draft();
  void compute(std::span<const RowPlan> rows);
  void on_logits(Sequence& s, int position, std::span<const float> logits);
  void sample_choice(Sequence& s, int choice, std::span<const float> logits);
  void after_step(Sequence& s, TimePoint now);
  void fork_choices(Sequence& s);
  void accept_tokens(Sequence& s);
  void learn(std::span<const RowPlan> rows, double seconds);
  void count_step(std::span<const RowPlan> rows, uint64_t bytes_before);
  void count_kv();
  int n_decoding() const;
  uint64_t bytes_read() const;

  ServingSetup setup_;
  Engine& engine_;
  std::vector<int32_t> end_tokens_;  // of the model
  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<Sequence*> by_engine_seq_;
  TenantBook tenants_;
  KvReservation reservation_;
  StreamView stream_;
  DecodeWidth decode_width_;
  std::vector<RequestView> views_;
  std::vector<DraftJob> draft_jobs_;
  std::vector<Sequence*> drafted_;  // of the jobs
  TimePoint start_;
  uint64_t n_requests_ = 0;
  int64_t n_steps_ = 0;
  double step_s_ = 0;   // of the last one
  StepCost step_cost_;  // of steps of decodes and drafts alone
  std::vector<double> expected_;
  TimePoint step_end_;  // of the last one
  int n_step_rows_ = 0;
  ServeStats stats_;
};

}  // namespace hob
