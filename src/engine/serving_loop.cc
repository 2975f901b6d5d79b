#include "engine/serving_loop.h"

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "engine/serving_state.h"

namespace hob {
namespace {

uint64_t scope_of(uint64_t seed, const std::string& salt) {
  Hash64 hash;
  hash.add(std::as_bytes(std::span(&seed, 1)));
  hash.add(std::as_bytes(std::span(salt.data(), salt.size())));
  return hash.value();
}

double seconds_between(TimePoint a, TimePoint b) {
  return std::chrono::duration<double>(b - a).count();
}

}  // namespace

ServingLoop::ServingLoop(const ServingSetup& setup)
    : setup_(setup), engine_(*setup.engine), start_(std::chrono::steady_clock::now()) {
  for (int t = 0; t < std::min(setup.tokenizer->n_vocab(), engine_.n_vocab()); t++)
    if (setup.tokenizer->is_end(t)) end_tokens_.push_back(t);
  note_streaming();
  if (setup.speculator)
    setup.speculator->set_hint([this](std::span<const int32_t> t) { engine_.expect(t); });
  if (setup.kv_reserve != KvReserve::kNone)
    reservation_ = KvReservation(setup.kv_reserve, engine_.kv().n_blocks());
}

ServingLoop::~ServingLoop() {
  end_all(FinishReason::kCancelled);
  if (setup_.speculator) setup_.speculator->set_hint({});
}

void ServingLoop::note_streaming() {
  const bool was = stream_.streaming;
  stream_.streaming = setup_.experts && !setup_.experts->resident();
  if (was || !stream_.streaming) return;
  const uint64_t total = setup_.experts->total_bytes();
  stream_ = {.streaming = true,
             .prefill_bytes = total - std::min(total, setup_.experts->used_bytes()),
             .decode_bytes_since_prefill = 0,
             .n_steps_since_prefill = kMaxHeldSteps,
             .max_decodes = 0};
}

void ServingLoop::set_expert_budget(uint64_t bytes) {
  if (!setup_.experts) return;
  const uint64_t before = setup_.experts->budget_bytes();
  setup_.experts->set_budget(bytes);
  stats_.n_memory_shrinks += setup_.experts->budget_bytes() < before;
  note_streaming();
}

double ServingLoop::seconds(TimePoint t) const { return seconds_between(start_, t); }

void ServingLoop::add(CompletionRequest in, std::shared_ptr<CompletionSink> sink, TimePoint now) {
  Request& r = *requests_.emplace_back(std::make_unique<Request>());
  r.number = n_requests_++;
  r.in = std::move(in);
  r.sink = std::move(sink);
  r.scope = scope_of(setup_.scope_seed, r.in.cache_salt);
  r.tenant = tenants_.enter(r.in.tenant);
  r.accepted = r.admitted = r.answered = now;
  r.banned = r.in.stop_token_ids;
  if (!r.in.ignore_eos) r.banned.insert(r.banned.end(), end_tokens_.begin(), end_tokens_.end());
  const auto n_prompt = static_cast<int>(r.in.prompt.size());
  r.usage.n_prompt_tok = n_prompt;
  const int room = setup_.max_model_len - n_prompt;
  r.max_tok = r.in.max_tok < 0 ? room : std::min(r.in.max_tok, room);
  for (int i = 0; i < r.in.n; i++) r.choices.emplace_back(r.in, *setup_.tokenizer, i, r.max_tok);
  Sequence& s = add_sequence(r, 0);
  s.waiting_since = now;
  if (r.in.n_prompt_logprobs < 0) s.n_cached_tok = engine_.kv().cached_prefix(r.scope, s.tokens);
}

ServingLoop::Sequence& ServingLoop::add_sequence(Request& request, int choice) {
  Sequence& s = *sequences_.emplace_back(std::make_unique<Sequence>());
  s.request = &request;
  s.choice = choice;
  s.arrival = request.number << 16 | static_cast<uint64_t>(choice);
  s.tokens = request.in.prompt;
  return s;
}

void ServingLoop::cancel(const std::string& id) {
  const auto it = std::find_if(requests_.begin(), requests_.end(),
                               [&](const auto& r) { return r->in.id == id; });
  if (it != requests_.end()) end_request(**it, FinishReason::kCancelled, nullptr);
}

// The one sequence of a request whose client drafts; null = there is none.
ServingLoop::Sequence* ServingLoop::client_sequence(const std::string& id) {
  const auto it = std::find_if(sequences_.begin(), sequences_.end(), [&](const auto& s) {
    return s->request->in.client_drafts && s->request->in.id == id;
  });
  return it == sequences_.end() ? nullptr : it->get();
}

void ServingLoop::offer_draft(const std::string& id, DraftOffer offer, TimePoint at) {
  Sequence* s = client_sequence(id);
  if (!s || !s->request->prompt_done || s->tokens.size() != static_cast<size_t>(offer.base_len))
    return;
  if (held(*s) && s->seq < 0) s->waiting_since = at;
  note_offer(*s, offer.sent_ahead, at);
  engine_.expect({&s->tokens.back(), 1});
  engine_.expect(offer.tree.tokens);
  s->offered = std::move(offer.tree);
}

void ServingLoop::set_self_decoding(const std::string& id, bool on) {
  if (Sequence* s = client_sequence(id)) s->self_decoding = on;
}

void ServingLoop::note_offer(Sequence& s, bool sent_ahead, TimePoint now) {
  s.offered_at = now;
  if (!sent_ahead) s.think.offered(seconds(now));
}

// Only where drafts are all that the step would have: prompts and decodes wait for nobody.
double ServingLoop::draft_wait_s(TimePoint now) {
  DraftBatchingInput in;
  in.policy = setup_.draft_batching;
  if (in.policy == DraftBatching::kGo) return 0;
  expected_.clear();
  double n_rows = 0;
  for (const auto& s : sequences_) {
    if (!s->request->in.client_drafts || !s->request->prompt_done || s->self_decoding ||
        (s->seq < 0 && s->offered))
      return 0;
    in.n_answers++;
    if (s->offered) {
      in.n_ready++;
      in.waited_s = std::max(in.waited_s, seconds_between(std::max(s->offered_at, step_end_), now));
      n_rows += 1 + s->offered->size();
    } else if (const auto in_s = s->think.expected_in_s(seconds(now))) {
      expected_.push_back(*in_s);
    }
  }
  std::sort(expected_.begin(), expected_.end());
  in.expected_in_s = expected_;
  in.fixed_s = step_cost_.fixed_s();
  in.draft_s = in.n_ready > 0 ? step_cost_.row_s() * n_rows / in.n_ready : 0;
  return hob::draft_wait_s(in);
}

bool ServingLoop::held(const Sequence& s) {
  return s.request->in.client_drafts && s.request->prompt_done && !s.self_decoding && !s.offered;
}

bool ServingLoop::has_work() const {
  return std::any_of(sequences_.begin(), sequences_.end(), [](const auto& s) { return !held(*s); });
}

std::optional<TimePoint> ServingLoop::next_deadline() const {
  std::optional<TimePoint> next;
  for (const auto& r : requests_)
    if (r->in.deadline && (!next || *r->in.deadline < *next)) next = r->in.deadline;
  return next;
}

void ServingLoop::end_all(FinishReason reason, std::exception_ptr error) {
  while (!requests_.empty()) end_request(*requests_.back(), reason, error);
}

void ServingLoop::expire(TimePoint now) {
  for (size_t i = requests_.size(); i-- > 0;)
    if (requests_[i]->in.deadline && *requests_[i]->in.deadline <= now)
      end_request(*requests_[i], FinishReason::kDeadline, nullptr);
}

// n_draft_nodes: of the client's draft that the step verified.
void ServingLoop::send(Request& request, int choice, std::optional<int> n_draft_nodes) {
  ChoiceOutput& output = request.choices[static_cast<size_t>(choice)];
  if (!output.has_news()) return;
  CompletionDelta delta = output.take_delta();
  if (!delta.tokens.empty()) {
    delta.step_s = step_s_;
    delta.n_step_rows = n_step_rows_;
    delta.of_draft = n_draft_nodes.has_value();
    delta.n_draft_nodes = n_draft_nodes.value_or(0);
  }
  if (delta.finish) stats_.n_finished[static_cast<size_t>(*delta.finish)]++;
  request.sink->on_delta(std::move(delta));
}

void ServingLoop::remove(Sequence& s) {
  if (s.seq >= 0) {
    by_engine_seq_[static_cast<size_t>(s.seq)] = nullptr;
    engine_.close(s.seq);
  }
  std::erase_if(sequences_, [&](const std::unique_ptr<Sequence>& q) { return q.get() == &s; });
}

void ServingLoop::end_request(Request& request, FinishReason reason, std::exception_ptr error) {
  for (size_t i = sequences_.size(); i-- > 0;)
    if (sequences_[i]->request == &request) remove(*sequences_[i]);
  for (int i = 0; i < request.in.n; i++) {
    request.choices[static_cast<size_t>(i)].end(reason);
    send(request, i);
  }
  const TimePoint now = std::chrono::steady_clock::now();
  CompletionUsage& usage = request.usage;
  if (!request.started) request.admitted = now;
  if (!request.prompt_done) request.answered = now;
  usage.queue_s = seconds_between(request.accepted, request.admitted);
  usage.prefill_s = seconds_between(request.admitted, request.answered);
  usage.decode_s = seconds_between(request.answered, now);
  for (const ChoiceOutput& c : request.choices) usage.n_completion_tok += c.n_tok();
  tenants_.leave(request.tenant);
  if (request.piece) reservation_.give(*request.piece);

  const auto it = std::find_if(requests_.begin(), requests_.end(),
                               [&](const auto& r) { return r.get() == &request; });
  const std::unique_ptr<Request> last = std::move(*it);
  requests_.erase(it);
  if (on_ended) on_ended(last->in.id);
  last->sink->on_end(usage, error);
}

void ServingLoop::finish_if_done(Request& request) {
  if (std::all_of(request.choices.begin(), request.choices.end(),
                  [](const ChoiceOutput& c) { return c.finished(); }))
    end_request(request, FinishReason::kStop, nullptr);
}

ServeStats ServingLoop::stats() const {
  ServeStats s = stats_;
  for (const auto& q : sequences_) {
    if (q->seq < 0)
      s.n_waiting++;
    else
      s.n_running += q->carries_all() ? q->request->in.n : 1;
  }
  const KvStore& kv = engine_.kv();
  s.n_kv_blocks = kv.n_blocks();
  s.n_kv_blocks_used = kv.n_blocks() - kv.n_free_blocks();
  s.n_prefix_queries_tok = kv.prefix_stats().n_query_tok;
  s.n_prefix_hits_tok = kv.prefix_stats().n_hit_tok;
  s.n_steps = static_cast<uint64_t>(n_steps_);
  if (setup_.speculator) s.speculation = setup_.speculator->stats();
  if (setup_.experts) {
    s.experts = setup_.experts->stats();
    s.expert_slots_bytes = setup_.experts->used_bytes();
    s.expert_budget_bytes = setup_.experts->budget_bytes();
  }
  return s;
}

}  // namespace hob
