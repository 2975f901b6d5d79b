// One step of the serving loop: schedule, run, postprocess.
#include <algorithm>
#include <thread>

#include "base/error.h"
#include "engine/serving_state.h"

namespace hob {

RequestView ServingLoop::view(const Sequence& s) const {
  const Request& r = *s.request;
  RequestView v;
  v.running = s.seq >= 0;
  v.preempted = s.preempted;
  v.held = held(s);
  v.n_seqs = s.carries_all() ? r.in.n : 1;
  v.priority = r.in.priority;
  v.arrival = s.arrival;
  v.deadline_s = r.in.deadline ? seconds(*r.in.deadline) : 0;
  v.waiting_since_s = seconds(s.waiting_since);
  v.tenant = r.tenant;
  v.last_step = s.last_step;
  v.in_turn = s.in_turn;
  const auto n_tok = static_cast<int>(s.tokens.size());
  const int n_computed = v.running ? engine_.n_computed(s.seq) : s.n_cached_tok;
  v.n_pending_tok = n_tok - n_computed;
  v.n_more_tok = std::max(0, r.max_tok - (n_tok - static_cast<int>(r.in.prompt.size())));
  v.n_logits_from = std::max(0, n_tok - n_logits(s) - n_computed);
  v.n_draft_tok = s.draft.size();
  if (v.running) {
    v.n_room_tok = (kKvBlock - n_computed % kKvBlock) % kKvBlock;
    v.copies_block = v.n_room_tok > 0 && engine_.n_blocks_needed(s.seq, 1) > 0;
    v.n_own_blocks = engine_.n_blocks(s.seq);
  }
  if (reservation_.on()) v.n_reserve_blocks = r.piece ? 0 : reserve_size(r);
  return v;
}

int ServingLoop::reserve_size(const Request& r) const {
  const auto n_prompt = static_cast<int>(r.in.prompt.size());
  return reservation_.size(n_prompt + r.max_tok, setup_.max_model_len);
}

// How many of the last tokens want logits.
int ServingLoop::n_logits(const Sequence& s) {
  const Request& r = *s.request;
  const auto n_tok = static_cast<int>(s.tokens.size());
  if (r.prompt_done || r.in.n_prompt_logprobs < 0) return 1;
  return n_tok - std::max(0, static_cast<int>(r.prompt_logprobs.size()) - 1);
}

// By the views of the step that is planned or has just run.
int ServingLoop::n_decoding() const {
  return static_cast<int>(std::count_if(views_.begin(), views_.end(), [](const RequestView& v) {
    return v.running && v.decodes() && !v.held;
  }));
}

// What the client has drafted, as far as the answer may still grow.
void ServingLoop::take_offer(Sequence& s) {
  const Request& r = *s.request;
  const int room = r.max_tok - static_cast<int>(s.tokens.size() - r.in.prompt.size()) - 1;
  s.draft = *s.offered;
  s.draft.cut_depth(std::max(0, room));
}

// Drafts for all that decode.
void ServingLoop::draft() {
  draft_jobs_.clear();
  drafted_.clear();
  for (const auto& q : sequences_) {
    Sequence& s = *q;
    s.draft.clear();
    if (s.seq < 0 || s.carries_all() || engine_.n_pending(s.seq) != 1 || held(s)) continue;
    if (s.offered) {
      take_offer(s);
      continue;
    }
    if (!setup_.speculator) continue;
    const Request& r = *s.request;
    const auto n_answer = static_cast<int>(s.tokens.size() - r.in.prompt.size());
    if (!s.draft_state)
      s.draft_state = setup_.speculator->open(r.in.sampling,
                                              r.in.first_choice + static_cast<uint32_t>(s.choice));
    const int room = r.max_tok - n_answer - 1;  // the step's own token comes anyway
    draft_jobs_.push_back({.state = s.draft_state.get(),
                           .tokens = s.tokens,
                           .max_nodes = room > 0 ? setup_.limits.max_logit_rows : 0,
                           .max_depth = std::max(0, room),
                           .tree = {}});
    drafted_.push_back(&s);
  }
  if (drafted_.empty()) return;
  const auto n_plain = static_cast<int>(drafted_.size());
  const int n_rows = std::min(setup_.limits.max_rows, setup_.limits.max_logit_rows);
  setup_.speculator->draft(draft_jobs_, n_plain, std::max(0, n_rows - n_plain));
  for (size_t i = 0; i < drafted_.size(); i++) drafted_[i]->draft = std::move(draft_jobs_[i].tree);
}

ScheduleResult ServingLoop::plan(TimePoint now) {
  draft();
  views_.clear();
  for (const auto& s : sequences_) views_.push_back(view(*s));
  stream_.max_decodes = stream_.streaming ? decode_width_.rows(n_decoding()) : 0;
  return schedule_requests({.requests = views_,
                            .tenants = tenants_.views(),
                            .n_free_blocks = reservation_.on() ? reservation_.n_free_blocks()
                                                               : engine_.kv().n_free_blocks(),
                            .limits = setup_.limits,
                            .stream = stream_,
                            .now_s = seconds(now)});
}

void ServingLoop::preempt(Sequence& s, TimePoint now) {
  by_engine_seq_[static_cast<size_t>(s.seq)] = nullptr;
  engine_.close(s.seq);
  s.seq = -1;
  s.preempted = true;
  s.waiting_since = now;
  s.n_cached_tok = 0;
  s.request->usage.n_preemptions++;
  stats_.n_preemptions++;
}

void ServingLoop::bind(Sequence& s, int engine_seq) {
  s.seq = engine_seq;
  if (by_engine_seq_.size() <= static_cast<size_t>(engine_seq))
    by_engine_seq_.resize(static_cast<size_t>(engine_seq) + 1);
  by_engine_seq_[static_cast<size_t>(engine_seq)] = &s;
}

// False: the prefix cache no longer has what the plan counted on, and there is no room without it.
bool ServingLoop::admit(Sequence& s, TimePoint now) {
  Request& r = *s.request;
  if (reservation_.on() && !r.piece && !(r.piece = reservation_.take(reserve_size(r))))
    return false;  // a buddy allocator may have the blocks, but not in one piece
  const int seq = engine_.open(r.scope);
  engine_.feed(seq, s.tokens, n_logits(s));
  const int n_cached = engine_.attach_prefix(seq);
  if (engine_.n_blocks_needed(seq, 1) > engine_.kv().n_free_blocks()) {
    engine_.close(seq);
    s.n_cached_tok = n_cached;
    return false;
  }
  bind(s, seq);
  s.preempted = false;
  tenants_.admit(r.tenant, seconds(now));
  if (r.started) return true;
  r.started = true;
  r.admitted = now;
  r.usage.n_cached_tok = n_cached;
  stats_.n_cached_tok += static_cast<uint64_t>(n_cached);
  stats_.n_prompt_tok += r.in.prompt.size();
  if (on_started) on_started(r.in.id);
  return true;
}

// The plan in terms of the engine. Admissions may have found more or less in the prefix cache than
// the plan counted on, so what is limited is counted once more, as engine and store count it.
std::vector<RowPlan> ServingLoop::engine_rows(const ScheduleResult& result) {
  std::vector<RowPlan> rows;
  int n_free = engine_.kv().n_free_blocks(), n_logit_rows = setup_.limits.max_logit_rows;
  for (const RowPlan& p : result.rows) {
    Sequence& s = *sequences_[static_cast<size_t>(p.seq)];
    if (s.seq < 0) continue;  // was not admitted after all
    const int n_pending = engine_.n_pending(s.seq);
    int n = std::min(p.n_tok, n_pending + s.draft.size());
    n -= std::max(0, engine_.n_logit_rows(s.seq, n) - n_logit_rows);
    while (n > 1 && engine_.n_blocks_needed(s.seq, n) > n_free) n -= std::min(n - 1, kKvBlock);
    if (n <= 0 || engine_.n_blocks_needed(s.seq, n) > n_free) continue;
    s.draft.resize(std::max(0, n - n_pending));
    engine_.extend_tree(s.seq, s.draft);
    s.walk.emplace(s.draft);
    if (!s.draft.empty()) s.text = s.tokens;
    n_free -= engine_.n_blocks_needed(s.seq, n);
    n_logit_rows -= engine_.n_logit_rows(s.seq, n);
    rows.push_back({s.seq, n});
    s.last_step = n_steps_;
    tenants_.serve(s.request->tenant, n);
  }
  return rows;
}

bool ServingLoop::step(TimePoint now) {
  expire(now);
  if (requests_.empty()) return false;
  const ScheduleResult result = plan(now);
  n_steps_++;
  for (int i : result.preempted) preempt(*sequences_[static_cast<size_t>(i)], now);
  for (int i : result.admitted) admit(*sequences_[static_cast<size_t>(i)], now);
  const std::vector<RowPlan> rows = engine_rows(result);
  if (rows.empty()) return !result.preempted.empty();
  const uint64_t bytes_before = bytes_read();
  const TimePoint begun = std::chrono::steady_clock::now();
  compute(rows);
  if (setup_.step_floor_s > 0)
    std::this_thread::sleep_until(begun + std::chrono::duration_cast<TimePoint::duration>(
                                              std::chrono::duration<double>(setup_.step_floor_s)));
  count_step(rows, bytes_before);
  count_kv();
  const TimePoint end = std::chrono::steady_clock::now();
  step_s_ = seconds(end) - seconds(now);
  step_end_ = end;
  n_step_rows_ = 0;
  for (const RowPlan& p : rows) n_step_rows_ += p.n_tok;
  learn(rows, step_s_);
  for (const RowPlan& p : rows)
    if (Sequence* s = by_engine_seq_[static_cast<size_t>(p.seq)]) after_step(*s, end);
  return true;
}

void ServingLoop::compute(std::span<const RowPlan> rows) {
  try {
    engine_.run(rows, [&](int seq, int position, std::span<const float> logits) {
      Sequence& s = *by_engine_seq_[static_cast<size_t>(seq)];
      if (s.error) return;
      try {
        on_logits(s, position, logits);
      } catch (...) {
        s.error = std::current_exception();
      }
    });
  } catch (...) {  // the whole step, e.g. no memory: whoever took part ends, others go on
    for (const RowPlan& p : rows)
      by_engine_seq_[static_cast<size_t>(p.seq)]->error = std::current_exception();
  }
}

void ServingLoop::on_logits(Sequence& s, int position, std::span<const float> logits) {
  Request& r = *s.request;
  const size_t next = static_cast<size_t>(position) + 1;
  if (next < s.tokens.size()) {  // a token of the prompt follows
    if (r.prompt_logprobs.empty()) r.prompt_logprobs.push_back({.token = s.tokens[0], .top = {}});
    HOB_CHECK(r.prompt_logprobs.size() == next);
    r.prompt_logprobs.push_back(token_logprob(logits, s.tokens[next], r.in.n_prompt_logprobs));
    return;
  }
  if (r.in.max_tok == 0) return;
  if (s.carries_all()) {
    for (int i = 0; i < r.in.n; i++) sample_choice(s, i, logits);
    return;
  }
  const auto n_tok = static_cast<int>(s.tokens.size());
  if (!s.walk->waits_for(position < n_tok ? DraftTree::kRoot : position - n_tok)) return;
  sample_choice(s, s.choice, logits);
  s.walk->choose(s.sampled.back().token);
  if (!s.draft.empty()) s.text.push_back(s.sampled.back().token);
}

void ServingLoop::sample_choice(Sequence& s, int choice, std::span<const float> logits) {
  const Request& r = *s.request;
  const std::vector<int32_t>& text = s.draft.empty() ? s.tokens : s.text;
  const bool may_end = r.choices[static_cast<size_t>(choice)].may_end(
      static_cast<int>(text.size() - s.tokens.size()));
  const LogitEdits edits{.bias = r.in.logit_bias,
                         .banned = may_end ? std::span<const int32_t>() : r.banned};
  const int32_t token = sample(logits, r.in.sampling, text, static_cast<uint32_t>(text.size()),
                               r.in.first_choice + static_cast<uint32_t>(choice), edits);
  std::optional<TokenLogprob> logprob;
  if (r.in.n_logprobs >= 0) logprob = token_logprob(logits, token, r.in.n_logprobs);
  s.sampled.push_back({choice, token, std::move(logprob)});
}

void ServingLoop::after_step(Sequence& s, TimePoint now) {
  Request& r = *s.request;
  // Logits that cannot be sampled: what was computed is not to be trusted. A lost expert left
  // nothing behind: its rows were not committed.
  if (s.error) engine_.forget_prefixes();
  if (!s.error) s.error = engine_.error(s.seq);
  if (s.error) return end_request(r, FinishReason::kError, s.error);
  const auto n_prompt = static_cast<int>(r.in.prompt.size());
  if (!r.prompt_done) r.sink->on_prefill(engine_.n_computed(s.seq), n_prompt);
  if (engine_.n_pending(s.seq) > 0) return;
  if (r.prompt_done) {
    HOB_CHECK(s.walk->finish());
    engine_.accept(s.seq, s.walk->path());
    if (setup_.speculator && !s.offered) setup_.speculator->add_result(s.draft, s.walk->path());
    return accept_tokens(s);
  }

  if (r.in.n_prompt_logprobs >= 0) {
    if (r.prompt_logprobs.empty()) r.prompt_logprobs.push_back({.token = s.tokens[0], .top = {}});
    r.sink->on_prompt_logprobs(std::move(r.prompt_logprobs));
  }
  r.answered = now;
  if (r.in.max_tok == 0) return end_request(r, FinishReason::kLength, nullptr);
  fork_choices(s);
  accept_tokens(s);
}

// From here on each choice is a sequence of its own. Where the store refuses to share, it starts
// anew as if it had been preempted.
void ServingLoop::fork_choices(Sequence& s) {
  Request& r = *s.request;
  r.prompt_done = true;
  std::vector<Sequence::Sampled> sampled = std::move(s.sampled);
  s.sampled.clear();
  for (Sequence::Sampled& x : sampled) {
    if (x.choice == s.choice) {
      s.sampled.push_back(std::move(x));
      continue;
    }
    Sequence& other = add_sequence(r, x.choice);
    if (const std::optional<int> seq = engine_.fork(s.seq)) {
      bind(other, *seq);
    } else {
      other.preempted = true;
      other.waiting_since = s.waiting_since;
    }
    other.sampled.push_back(std::move(x));
    accept_tokens(other);
  }
}

// What the step has decided, in order. What stands behind an end is dropped.
void ServingLoop::accept_tokens(Sequence& s) {
  Request& r = *s.request;
  HOB_CHECK(!s.sampled.empty());
  std::vector<Sequence::Sampled> sampled = std::move(s.sampled);
  s.sampled.clear();
  std::optional<int> n_draft_nodes;
  if (s.offered) n_draft_nodes = s.draft.size();
  s.offered.reset();
  s.think.decided(seconds(std::chrono::steady_clock::now()));
  ChoiceOutput& output = r.choices[static_cast<size_t>(s.choice)];
  for (Sequence::Sampled& x : sampled) {
    stats_.n_generated_tok++;
    output.add(x.token, std::move(x.logprob));
    if (output.finished()) break;
    s.tokens.push_back(x.token);
  }
  send(r, s.choice, n_draft_nodes);
  if (!output.finished()) {
    if (s.seq >= 0) engine_.feed(s.seq, {&s.tokens.back(), 1}, 1);
    return;
  }
  remove(s);
  finish_if_done(r);
}

// From steps of nothing but decodes: what rows cost (speculator), and for streamed models who
// should decode together (decode_width.h).
void ServingLoop::learn(std::span<const RowPlan> rows, double seconds) {
  bool only_decodes = true;
  int n_rows = 0, n_tok = 0;
  for (const RowPlan& p : rows) {
    Sequence& s = *by_engine_seq_[static_cast<size_t>(p.seq)];
    only_decodes = only_decodes && !s.carries_all() && p.n_tok == 1 + s.draft.size();
    n_rows += p.n_tok;
    n_tok += static_cast<int>(s.sampled.size());
    s.in_turn = true;
  }
  stats_.decode_width = stream_.max_decodes;
  if (!only_decodes) return;
  step_cost_.add(n_rows, seconds);
  if (setup_.speculator) setup_.speculator->add_step(n_rows, seconds);
  if (!stream_.streaming) return;
  decode_width_.add_step(n_tok, n_decoding(), seconds);
  if (decode_width_.turn_over())
    for (const auto& s : sequences_) s->in_turn = false;
}

// What the running sequences hold, and of that what has a token in it.
void ServingLoop::count_kv() {
  for (const auto& s : sequences_) {
    if (s->seq < 0) continue;
    stats_.n_kv_token_steps += static_cast<uint64_t>(engine_.n_computed(s->seq));
    if (!reservation_.on())
      stats_.n_kv_slot_steps += static_cast<uint64_t>(engine_.n_blocks(s->seq)) * kKvBlock;
  }
  for (const auto& r : requests_)
    if (r->piece) stats_.n_kv_slot_steps += static_cast<uint64_t>(r->piece->n_blocks) * kKvBlock;
}

uint64_t ServingLoop::bytes_read() const {
  return setup_.experts ? setup_.experts->stats().bytes_read : 0;
}

void ServingLoop::count_step(std::span<const RowPlan> rows, uint64_t bytes_before) {
  bool has_prompt = false;
  for (const RowPlan& p : rows) {
    stats_.n_rows += static_cast<uint64_t>(p.n_tok);
    has_prompt =
        has_prompt || p.n_tok > 1 + by_engine_seq_[static_cast<size_t>(p.seq)]->draft.size();
  }
  if (!stream_.streaming) return;
  const uint64_t bytes = bytes_read() - bytes_before;
  if (has_prompt) {
    stream_ = {.streaming = true,
               .prefill_bytes = bytes,
               .decode_bytes_since_prefill = 0,
               .n_steps_since_prefill = 0,
               .max_decodes = stream_.max_decodes};
  } else {
    stream_.decode_bytes_since_prefill += bytes;
    stream_.n_steps_since_prefill++;
  }
}

}  // namespace hob
