#include "edge/edge_loop.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/clock.h"
#include "edge/edge_loop_state.h"

namespace hob::edge {
namespace {

// For a server that was away when the last answer ended: time for a connection, with TLS and a slow
// link.
constexpr int64_t kChanceUs = 2'000'000;

}  // namespace

class EdgeLoop::Events : public LinkEvents {
 public:
  Events(std::shared_ptr<Inbox> inbox, uint64_t link) : inbox_(std::move(inbox)), link_(link) {}
  void on_frame(pb::ServerFrame frame) override { push({link_, std::move(frame)}); }
  void on_closed(const std::string&) override { push({link_, std::nullopt}); }

 private:
  void push(Inbox::Event event) {
    {
      const std::lock_guard lock(inbox_->mutex);
      inbox_->events.push_back(std::move(event));
    }
    inbox_->wake();
  }
  const std::shared_ptr<Inbox> inbox_;
  const uint64_t link_;
};

EdgeLoop::EdgeLoop(Connector& connector, Speculator& speculator, const Tokenizer& tokenizer,
                   const EdgeLoopOptions& options, std::function<void()> wake)
    : connector_(connector),
      speculator_(speculator),
      tokenizer_(tokenizer),
      options_(options),
      inbox_(std::make_shared<Inbox>()),
      mode_(options.server_drafts) {
  inbox_->wake = std::move(wake);
}

EdgeLoop::~EdgeLoop() { end_all(); }

void EdgeLoop::add(CompletionRequest request, std::shared_ptr<CompletionSink> sink,
                   int64_t now_us) {
  waiting_.push_back({std::move(request), std::move(sink), now_us});
}

// In the order in which they came, as many as may run together.
void EdgeLoop::start_waiting(int64_t now_us) {
  while (!waiting_.empty()) {
    const size_t n = generations_.size() + static_cast<size_t>(waiting_.front().request.n);
    if (!generations_.empty() && n > static_cast<size_t>(options_.max_generations)) return;
    Waiting first = std::move(waiting_.front());
    waiting_.pop_front();
    start(std::move(first), now_us);
    remove_ended();
  }
}

void EdgeLoop::start(Waiting waiting, int64_t now_us) {
  const auto group = std::make_shared<Group>();
  group->in = std::move(waiting.request);
  group->sink = std::move(waiting.sink);
  group->usage.queue_s = static_cast<double>(now_us - waiting.since_us) * 1e-6;
  group->start_us = now_us;
  const CompletionRequest& r = group->in;
  const auto n_prompt = static_cast<int>(r.prompt.size());
  group->usage.n_prompt_tok = n_prompt;
  stats_.n_prompt_tok += static_cast<uint64_t>(n_prompt);
  const int room = options_.session.limits.max_context - n_prompt;
  const int max_tok = r.max_tok < 0 ? room : std::min(r.max_tok, room);
  group->n_running = r.n;
  for (int i = 0; i < r.n; i++) {
    pb::Open open = open_from(r, r.first_choice + static_cast<uint32_t>(i));
    *open.mutable_tokenizer() = options_.tokenizer;
    open.set_model(options_.model);
    if (streams()) open.set_mode(pb::SERVER_STREAM);
    if (options_.private_noise && r.sampling.temperature > 0)
      open.mutable_sampling()->set_rule(pb::SAMPLE_MATCH);
    ClientSessionOptions session = options_.session;
    session.seed += n_links_ + static_cast<uint64_t>(i);
    generations_.push_back(std::make_unique<Generation>(
        group, i, tokenizer_, max_tok,
        ClientSession(std::move(open), options_.random_bytes(16), session)));
    // The server has been away for long: what it is given now is a chance, not the whole patience.
    if (options_.writes_alone && away_since_us_ > 0)
      generations_.back()->session.assume_away_since(
          std::max(away_since_us_, now_us - options_.session.patience_us + kChanceUs));
    if (max_tok == 0) finish(*generations_.back(), FinishReason::kLength, nullptr);
  }
}

// A request that never began.
void EdgeLoop::end_waiting(Waiting waiting, FinishReason reason) {
  for (int i = 0; i < waiting.request.n; i++) {
    CompletionDelta delta;
    delta.choice = i;
    delta.finish = reason;
    stats_.n_finished[static_cast<size_t>(reason)]++;
    waiting.sink->on_delta(std::move(delta));
  }
  CompletionUsage usage;
  usage.n_prompt_tok = static_cast<int>(waiting.request.prompt.size());
  if (on_ended) on_ended();
  waiting.sink->on_end(usage, nullptr);
}

void EdgeLoop::cancel(const std::string& id) {
  const auto it = std::find_if(waiting_.begin(), waiting_.end(),
                               [&](const Waiting& w) { return w.request.id == id; });
  if (it != waiting_.end()) {
    Waiting waiting = std::move(*it);
    waiting_.erase(it);
    return end_waiting(std::move(waiting), FinishReason::kCancelled);
  }
  for (const auto& g : generations_)
    if (g->group->in.id == id) finish(*g, FinishReason::kCancelled, nullptr);
  remove_ended();
}

void EdgeLoop::end_all() {
  while (!waiting_.empty()) {
    Waiting waiting = std::move(waiting_.front());
    waiting_.pop_front();
    end_waiting(std::move(waiting), FinishReason::kCancelled);
  }
  for (const auto& g : generations_) finish(*g, FinishReason::kCancelled, nullptr);
  remove_ended();
}

void EdgeLoop::connect(Generation& g, int64_t now_us) {
  g.link.reset();
  g.link_number = ++n_links_;
  g.session.on_connected(now_us);
  g.link = connector_.connect(std::make_shared<Events>(inbox_, g.link_number));
  flush(g);
}

void EdgeLoop::flush(Generation& g) {
  for (pb::ClientFrame& frame : g.session.take_frames())
    if (g.link) g.link->send(std::move(frame));
}

void EdgeLoop::take_events(int64_t now_us) {
  std::vector<Inbox::Event> events;
  {
    const std::lock_guard lock(inbox_->mutex);
    events.swap(inbox_->events);
  }
  for (const Inbox::Event& e : events) {
    const auto it = std::find_if(generations_.begin(), generations_.end(),
                                 [&](const auto& g) { return g->link_number == e.link; });
    if (it == generations_.end() || (*it)->over) continue;
    Generation& g = **it;
    if (e.frame) {
      g.session.on_frame(*e.frame, now_us);
      if (g.session.away_since_us() == 0) away_since_us_ = 0;
      learn(g);
      take_tokens(g, now_us);
    } else {
      g.link.reset();
      g.session.on_disconnected(now_us);
    }
  }
}

void EdgeLoop::take_tokens(Generation& g, int64_t now_us) {
  if (g.over || g.kept) return;
  const std::vector<int32_t> tokens = g.session.take_tokens();
  Group& group = *g.group;
  if (!tokens.empty() && group.answer_us == 0) {
    group.answer_us = now_ns() / 1000;
    group.sink->on_prefill(group.usage.n_prompt_tok, group.usage.n_prompt_tok);
  }
  for (const int32_t token : tokens) {
    if (g.output.finished()) break;
    stats_.n_generated_tok++;
    g.output.add(token, std::nullopt);
    g.provisional.on_committed(token);
  }
  if (!tokens.empty()) {
    measure(g, tokens.size(), now_us);
    g.is_mute = false;
  }
  if (g.output.finished()) return finish(g, FinishReason::kStop, nullptr);
  if (g.output.has_news()) group.sink->on_delta(take_news(g));
  if (g.session.end()) take_end(g);
}

CompletionDelta EdgeLoop::take_news(Generation& g) {
  CompletionDelta news = g.output.take_delta();
  if (g.kept)
    news.provisional = true;
  else
    g.provisional.settle(news);
  return news;
}

// How the session ended.
void EdgeLoop::take_end(Generation& g) {
  const ClientSession::End& end = *g.session.end();
  if (end.reason == "stop") return finish(g, FinishReason::kStop, nullptr);
  if (end.reason == "length") return finish(g, FinishReason::kLength, nullptr);
  if (end.reason == "deadline") return finish(g, FinishReason::kDeadline, nullptr);
  if (end.reason == "cancelled") return finish(g, FinishReason::kCancelled, nullptr);
  Code code = Code::kInternal;
  if (end.code == FaultCode::kInvalidArgument) code = Code::kInvalidArgument;
  if (end.code == FaultCode::kNotFound) code = Code::kNotFound;
  if (end.code == FaultCode::kUnavailable) code = Code::kIo;
  if (end.code == FaultCode::kUnavailable && keep_alone(g)) return;
  finish(g, FinishReason::kError, std::make_exception_ptr(Error(code, end.detail)));
}

// `reason`: unless its own output has ended it already.
void EdgeLoop::finish(Generation& g, FinishReason reason, std::exception_ptr error) {
  if (g.over) return;
  g.over = true;
  g.output.end(reason);
  g.session.cancel("the edge has all that it wants");
  flush(g);
  g.link.reset();
  Group& group = *g.group;
  group.usage.n_completion_tok += g.output.n_tok();
  group.usage.n_unverified_tok += g.n_unverified;
  stats_.n_unverified_tok += static_cast<uint64_t>(g.n_unverified);
  CompletionDelta delta = take_news(g);
  delta.finish = g.output.finish_reason();
  if (delta.finish) stats_.n_finished[static_cast<size_t>(*delta.finish)]++;
  group.sink->on_delta(std::move(delta));
  if (error && !group.error) group.error = error;
  const ClientStats& s = g.session.stats();
  ClientStats& sum = stats_.links;
  sum.n_rounds += s.n_rounds;
  sum.n_nodes += s.n_nodes;
  sum.n_accepted += s.n_accepted;
  sum.n_guessed += s.n_guessed;
  sum.n_hits += s.n_hits;
  sum.n_resumes += s.n_resumes;
  sum.bytes_up += s.bytes_up;
  sum.bytes_down += s.bytes_down;
  sum.srtt_us = s.srtt_us;
  sum.rttvar_us = s.rttvar_us;
  sum.verify_us = s.verify_us;
  sum.queue_us = s.queue_us;
  if (--group.n_running == 0) end_group(group);
}

void EdgeLoop::end_group(Group& group) {
  const int64_t now_us = now_ns() / 1000;
  if (group.answer_us == 0) group.answer_us = now_us;
  group.usage.prefill_s = static_cast<double>(group.answer_us - group.start_us) * 1e-6;
  group.usage.decode_s = static_cast<double>(now_us - group.answer_us) * 1e-6;
  if (on_ended) on_ended();
  group.sink->on_end(group.usage, group.error);
}

void EdgeLoop::remove_ended() {
  std::erase_if(generations_, [](const auto& g) { return g->over; });
}

void EdgeLoop::step(int64_t now_us) {
  take_events(now_us);
  expire_waiting();
  remove_ended();
  start_waiting(now_us);
  for (const auto& g : generations_) {
    if (g->over) continue;
    const auto& deadline = g->group->in.deadline;
    if (deadline && *deadline <= std::chrono::steady_clock::now()) {
      finish(*g, FinishReason::kDeadline, nullptr);
      continue;
    }
    g->session.tick(now_us);
    if (g->session.drops_link()) {
      g->link.reset();
      g->session.on_disconnected(now_us);
    }
    take_tokens(*g, now_us);
    if (!g->over && g->session.wants_link(now_us)) connect(*g, now_us);
  }
  choose_mode();
  draft(now_us);
  look_ahead();
  write_alone(now_us);
  for (const auto& g : generations_)
    if (!g->over) flush(*g);
  remove_ended();
  start_waiting(now_us);  // in the places of those that ended; they connect in the next step
}

void EdgeLoop::expire_waiting() {
  const auto now = std::chrono::steady_clock::now();
  for (size_t i = waiting_.size(); i-- > 0;) {
    if (!waiting_[i].request.deadline || *waiting_[i].request.deadline > now) continue;
    Waiting waiting = std::move(waiting_[i]);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    end_waiting(std::move(waiting), FinishReason::kDeadline);
  }
}

int64_t EdgeLoop::next_step_us() const {
  if (looks_ahead_ || writes_) return 0;
  int64_t next = INT64_MAX;
  const auto note_deadline = [&](const CompletionRequest& r) {
    if (r.deadline)
      next = std::min<int64_t>(next, std::chrono::duration_cast<std::chrono::microseconds>(
                                         r.deadline->time_since_epoch())
                                         .count());
  };
  for (const Waiting& w : waiting_) note_deadline(w.request);
  for (const auto& g : generations_) {
    next = std::min(next, g->session.next_tick_us());
    if (const int64_t since_us = g->session.away_since_us();
        options_.writes_alone && since_us > 0 && !g->is_mute && !g->provisional.finished())
      next = std::min(next, since_us + options_.alone_after_us);
    note_deadline(g->group->in);
  }
  return next;
}

EdgeStats EdgeLoop::stats() const {
  EdgeStats s = stats_;
  s.n_running = static_cast<int>(std::count_if(generations_.begin(), generations_.end(),
                                               [](const auto& g) { return !g->over; }));
  for (const Waiting& w : waiting_) s.n_waiting += w.request.n;
  return s;
}

}  // namespace hob::edge
