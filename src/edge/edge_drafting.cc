// What EdgeLoop drafts: for rounds, ahead of their ends, and alone while the server is away.
#include <algorithm>

#include "base/clock.h"
#include "edge/edge_loop_state.h"

namespace hob::edge {

bool EdgeLoop::streams() {
  return options_.mode == EdgeMode::kStream ||
         (options_.mode == EdgeMode::kMeasured && mode_.streams());
}

// From the next round on. What the draft model has said alone is settled by rounds.
void EdgeLoop::choose_mode() {
  const bool wanted = streams();
  for (const auto& g : generations_) {
    if (g->over) continue;
    const pb::Mode mode = wanted && g->provisional.empty() ? pb::SERVER_STREAM : pb::TREE;
    if (g->session.mode() != mode) g->session.set_mode(mode);
  }
}

// The time from verdict to verdict, or from one token of a stream to the next.
void EdgeLoop::measure(Generation& g, size_t n_tok, int64_t now_us) {
  const bool by_stream = g.session.mode() == pb::SERVER_STREAM;
  if (by_stream) stats_.n_streamed_tok += n_tok;
  if (g.decided_us > 0 && by_stream == g.by_stream && g.provisional.empty()) {
    const double seconds = static_cast<double>(now_us - g.decided_us) * 1e-6;
    if (by_stream)
      mode_.add_streamed(static_cast<int>(n_tok), seconds);
    else
      mode_.add_round(static_cast<int>(n_tok), seconds,
                      static_cast<double>(g.session.stats().verify_us) * 1e-6);
  }
  g.decided_us = now_us;
  g.by_stream = by_stream;
}

void EdgeLoop::open_draft_state(Generation& g) {
  const CompletionRequest& r = g.group->in;
  if (!g.draft_state)
    g.draft_state = speculator_.open(r.sampling, r.first_choice + static_cast<uint32_t>(g.choice));
}

// For all generations that wait for one, together.
void EdgeLoop::draft(int64_t now_us) {
  jobs_.clear();
  drafted_.clear();
  for (const auto& g : generations_) {
    if (g->over || !g->session.may_draft(now_us)) continue;
    if (!g->provisional.empty()) {
      send_provisional(*g, now_us);
      continue;
    }
    open_draft_state(*g);
    const int room = g->output.n_left() - 1;  // the round's own token comes anyway
    jobs_.push_back({.state = g->draft_state.get(),
                     .tokens = g->session.log().ids(),
                     .max_nodes = room > 0 ? g->session.max_nodes() : 0,
                     .max_depth = std::clamp(room, 0, options_.max_depth),
                     .tree = {}});
    drafted_.push_back(g.get());
  }
  if (drafted_.empty()) return;
  const int64_t start_ns = now_ns();
  speculator_.draft_apart(jobs_);
  const int64_t draft_us = (now_ns() - start_ns) / 1000;
  for (size_t i = 0; i < drafted_.size(); i++) {
    ClientSession& session = drafted_[i]->session;
    drafted_[i]->draft_us = draft_us;
    session.send_tree(std::move(jobs_[i].tree), draft_us, now_us + draft_us);
    flush(*drafted_[i]);
  }
}

// What rounds of so many rows take, from the first guess to the verdict, and what guesses are
// worth.
void EdgeLoop::learn(Generation& g) {
  const std::optional<DraftOutcome> o = g.session.take_outcome();
  // What the model said alone has no confidence: it did not choose what is worth sending.
  if (!o || o->tree.confidence.size() != o->tree.tokens.size()) return;
  speculator_.add_result(o->tree, o->path);
  if (o->took_us > 0)
    speculator_.add_round(1 + o->tree.size(), static_cast<double>(o->took_us + g.draft_us) * 1e-6);
}

// One forward pass of the draft model for all whose rounds are in flight; between two of them the
// loop hears what has come.
void EdgeLoop::look_ahead() {
  looks_ahead_ = false;
  if (options_.max_guesses == 0) return;
  jobs_.clear();
  for (const auto& g : generations_)
    if (!g->over && g->draft_state && g->provisional.empty() &&
        g->session.status() == ClientSession::Status::kWaiting)
      jobs_.push_back(
          {.state = g->draft_state.get(), .tokens = g->session.log().ids(), .tree = {}});
  if (jobs_.empty()) return;
  looks_ahead_ = speculator_.drafter().look_ahead(jobs_);
  for (const auto& g : generations_)
    if (!g->over && g->draft_state && g->session.may_guess() && !g->session.in_flight().empty() &&
        (!looks_ahead_ || now_ns() / 1000 >= g->session.guesses_due_us() - g->draft_us))
      send_guesses(*g);
}

void EdgeLoop::send_guesses(Generation& g) {
  if (g.guessed_for == g.session.log().size()) return;
  g.guessed_for = g.session.log().size();
  std::vector<OutcomeGuess> guesses = speculator_.drafter().guess_outcomes(
      *g.draft_state, g.session.log().ids(), g.session.in_flight(),
      std::min(options_.max_guesses, g.session.max_branches()),
      std::min(speculator_.options().max_nodes, g.session.max_nodes()));
  g.session.send_guesses(std::move(guesses));
  flush(g);
}

// What the draft model has said alone is a draft: a chain, as much of it as a round takes.
void EdgeLoop::send_provisional(Generation& g, int64_t now_us) {
  const int room = std::min(g.session.max_nodes(), g.output.n_left() - 1);
  DraftTree chain;
  for (const int32_t token : g.provisional.tokens()) {
    if (chain.size() >= room) break;
    chain.add(token, chain.size() - 1);
  }
  g.draft_us = 0;
  g.session.send_tree(std::move(chain), 0, now_us);
  flush(g);
}

bool EdgeLoop::is_alone(const Generation& g, int64_t now_us) const {
  if (!options_.writes_alone || g.over || g.is_mute) return false;
  if (g.kept) return true;
  const int64_t since_us = g.session.away_since_us();
  return since_us > 0 && now_us - since_us >= options_.alone_after_us && !g.provisional.finished();
}

// One token further for all whose server is away.
void EdgeLoop::write_alone(int64_t now_us) {
  writes_ = false;
  jobs_.clear();
  drafted_.clear();
  for (const auto& g : generations_) {
    if (!is_alone(*g, now_us)) continue;
    open_draft_state(*g);
    if (!g->kept) g->assemble_text();
    jobs_.push_back({.state = g->draft_state.get(), .tokens = g->text, .tree = {}});
    drafted_.push_back(g.get());
  }
  if (jobs_.empty()) return;
  speculator_.drafter().write(jobs_);
  for (size_t i = 0; i < jobs_.size(); i++) {
    Generation& g = *drafted_[i];
    g.is_mute = jobs_[i].tree.empty();
    if (!g.is_mute) say_alone(g, jobs_[i].tree.tokens[0]);
    if (g.is_mute && g.kept) finish(g, FinishReason::kLength, nullptr);
    writes_ = writes_ || !g.is_mute;
  }
}

void EdgeLoop::say_alone(Generation& g, int32_t token) {
  stats_.n_alone_tok++;
  if (!g.kept) {
    g.provisional.add(token, g.output);
    if (auto news = g.provisional.take_shown()) g.group->sink->on_delta(std::move(*news));
    return;
  }
  g.text.push_back(token);
  g.n_unverified++;
  g.output.add(token, std::nullopt);
  if (g.output.finished()) return finish(g, FinishReason::kStop, nullptr);
  if (g.output.has_news()) g.group->sink->on_delta(take_news(g));
}

// The server has not come back in time. True: the answer goes on without it.
bool EdgeLoop::keep_alone(Generation& g) {
  if (!options_.writes_alone || g.is_mute) return false;
  away_since_us_ = g.session.away_since_us();
  g.assemble_text();
  g.kept = true;
  g.n_unverified = g.provisional.keep(g.output);
  if (g.output.finished())
    finish(g, FinishReason::kStop, nullptr);
  else if (g.output.has_news())
    g.group->sink->on_delta(take_news(g));
  return true;
}

}  // namespace hob::edge
