#include "edge/simulator.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <queue>

#include "edge/client_session.h"
#include "edge/server_session.h"
#include "sampling/sampler.h"

namespace hob::edge {
namespace {

constexpr int kVocab = 1000, kPrompt = 8;

int64_t us(double seconds) { return std::llround(seconds * 1e6); }

// What happens when; at equal times in the order in which it was said.
class Agenda {
 public:
  int64_t now() const { return now_; }
  void at(int64_t time, std::function<void()> what) {
    events_.push({std::max(time, now_), n_++, std::move(what)});
  }
  void run() {
    while (!events_.empty()) {
      Event e = events_.top();
      events_.pop();
      now_ = e.time;
      e.what();
    }
  }

 private:
  struct Event {
    int64_t time;
    uint64_t number;
    std::function<void()> what;
    bool operator<(const Event& o) const {
      return time != o.time ? time > o.time : number > o.number;
    }
  };
  std::priority_queue<Event> events_;
  int64_t now_ = 0;
  uint64_t n_ = 0;
};

class Simulation {
 public:
  explicit Simulation(const SimOptions& o) : o_(o) {
    limits_.n_vocab = kVocab;
    limits_.max_context = kPrompt + o.n_tok + 1;
  }

  SimResult run() {
    double start = 0;
    for (int i = 0; i < o_.n_users; i++) {
      users_.push_back(std::make_unique<User>(make_client(i)));
      if (o_.mean_gap_s > 0) start -= o_.mean_gap_s * std::log(chance(i, -1, 0));
      agenda_.at(us(start), [this, i] { begin(i); });
    }
    for (const double t : o_.restarts) agenda_.at(us(t), [this] { restart(); });
    agenda_.run();
    return result();
  }

 private:
  struct User {
    explicit User(ClientSession c) : client(std::move(c)) {}
    ClientSession client;
    std::unique_ptr<ServerSession> server;
    uint64_t link = 0;       // frames of earlier ones are lost
    uint64_t dead_link = 0;  // no frame of this one arrives
    int64_t tick_at = 0;     // the time-out that is on the agenda
    bool drafting = false, done = false;
    int64_t last_us = 0;  // the last tokens came
    // At the server:
    std::optional<DraftTree> offered;
    bool wants_first = false;  // round 0
    int64_t offered_us = 0;
    ThinkTime think;
    int n_own = 0;  // without edges: tokens so far
  };

  ClientSession make_client(int i) const {
    CompletionRequest r;
    for (int p = 0; p < kPrompt; p++) r.prompt.push_back(truth(i, p));
    r.max_tok = o_.n_tok;
    ClientSessionOptions c;
    c.limits = limits_;
    c.seed = o_.seed + static_cast<uint64_t>(i);
    // Even the slowest server lives.
    c.most_silence_us = std::max<int64_t>(c.most_silence_us, us(20 * o_.step_fixed_s));
    return {open_from(r, 0), std::string(16, 's'), c};
  }

  double chance(int user, int position, uint32_t of) const {
    return philox_uniform(o_.seed, of, static_cast<uint32_t>(position),
                          static_cast<uint32_t>(user));
  }
  int32_t truth(int user, int position) const {
    return static_cast<int32_t>(chance(user, position, 1) * kVocab);
  }
  // What the drafter believes.
  int32_t guess(int user, int position) const {
    const int32_t t = truth(user, position);
    return chance(user, position, 2) < o_.accept ? t : (t + 1) % kVocab;
  }
  DraftTree draft(int user, int position) const {
    DraftTree tree;
    for (int i = 0; i < o_.n_draft; i++) tree.add(guess(user, position + i), i - 1, 0.5f);
    return tree;
  }

  // A link that has lost a frame brings none after it either: streams have no holes.
  bool swallowed(User& u) const {
    const double t = static_cast<double>(agenda_.now()) * 1e-6;
    if (std::any_of(o_.outages.begin(), o_.outages.end(),
                    [&](const auto& x) { return t >= x.first && t < x.second; }))
      u.dead_link = u.link;
    return u.dead_link == u.link;
  }
  int64_t way(int i) {
    const double jitter = o_.jitter_s * chance(i, static_cast<int>(n_sent_++), 3);
    return agenda_.now() + us(o_.one_way_s + jitter);
  }

  User& user(int i) { return *users_[static_cast<size_t>(i)]; }

  void begin(int i) {
    user(i).last_us = agenda_.now();
    if (o_.system != SimSystem::kEdge) {
      user(i).wants_first = true;
      return try_step();
    }
    connect(i);
  }

  // ---------------------------------------------------------------------------------- edge

  void connect(int i) {
    User& u = user(i);
    u.link++;
    u.client.on_connected(agenda_.now());
    after(i);
  }

  // Whatever happened to the client: its frames leave, its tokens are read, it drafts, it waits.
  void after(int i) {
    User& u = user(i);
    take_tokens(i);
    for (pb::ClientFrame& f : u.client.take_frames()) send_up(i, std::move(f));
    if (u.client.end() || u.done) {
      n_failed_ += !u.done && u.client.end()->reason != "length";
      u.done = true;
      return;
    }
    if (u.client.drops_link()) {
      u.link++;
      detach(i);
      u.client.on_disconnected(agenda_.now());
    }
    if (u.client.wants_link(agenda_.now())) return connect(i);
    if (u.client.may_draft(agenda_.now()) && !u.drafting) begin_draft(i);
    if (const int64_t t = u.client.next_tick_us(); t != INT64_MAX && t != u.tick_at) {
      u.tick_at = t;
      agenda_.at(t, [this, i, t] { tick(i, t); });
    }
  }

  void tick(int i, int64_t planned) {
    User& u = user(i);
    if (u.done || u.tick_at != planned) return;
    u.tick_at = 0;
    u.client.tick(agenda_.now());
    after(i);
  }

  void begin_draft(int i) {
    user(i).drafting = true;
    agenda_.at(agenda_.now() + us(o_.edge_draft_s), [this, i] {
      User& u = user(i);
      u.drafting = false;
      if (u.client.may_draft(agenda_.now())) {
        u.client.send_tree(draft(i, u.client.log().size()), us(o_.edge_draft_s), agenda_.now());
        begin_guess(i);
      }
      after(i);
    });
  }

  // While the round is away: after another draft's time a guess of its end leaves, right with
  // hit_rate. (The truth is known here, so rates are as said.)
  void begin_guess(int i) {
    if (o_.hit_rate <= 0) return;
    const int base = user(i).client.log().size();
    agenda_.at(agenda_.now() + us(o_.edge_draft_s), [this, i, base] {
      User& u = user(i);
      if (u.done || !u.client.may_guess() || u.client.log().size() != base) return;
      const bool hit = chance(i, base, 4) < o_.hit_rate;
      OutcomeGuess g;
      int end = base;
      for (int n = 0; n < u.client.in_flight().size() && guess(i, end) == truth(i, end); n++) {
        g.node = n;
        end++;
      }
      g.bonus = hit ? truth(i, end) : (truth(i, end) + 1) % kVocab;
      g.tree = draft(i, end + 1);
      u.client.send_guesses({std::move(g)});
      after(i);
    });
  }

  void send_up(int i, pb::ClientFrame frame) {
    if (swallowed(user(i))) return;
    agenda_.at(way(i), [this, i, link = user(i).link, f = std::move(frame)] {
      if (user(i).link == link) at_server(i, f);
    });
  }

  void take_tokens(int i) {
    User& u = user(i);
    int position = u.client.log().size();
    const std::vector<int32_t> tokens = u.client.take_tokens();
    position -= static_cast<int>(tokens.size());
    note_tokens(i, position, tokens);
  }

  void note_tokens(int i, int position, const std::vector<int32_t>& tokens) {
    User& u = user(i);
    if (tokens.empty()) return;
    for (size_t k = 0; k < tokens.size(); k++)
      n_wrong_ += tokens[k] != truth(i, position + static_cast<int>(k));
    const double gap =
        static_cast<double>(agenda_.now() - u.last_us) * 1e-6 / static_cast<double>(tokens.size());
    gaps_.insert(gaps_.end(), tokens.size(), gap);
    u.last_us = end_us_ = agenda_.now();
    n_tok_ += tokens.size();
    n_decided_++;
  }

  // -------------------------------------------------------------------------------- server

  void at_server(int i, const pb::ClientFrame& f) {
    User& u = user(i);
    if (f.has_open() || (f.has_resume() && !u.server)) {
      u.server = std::make_unique<ServerSession>(
          ServerSessionOptions{.limits = limits_, .session_id = std::string("s")});
      carry_out(i, f.has_open() ? u.server->open(f.open(), f.epoch(), "t")
                                : u.server->reopen(f.resume(), f.epoch(), "t"));
    } else if (f.has_resume()) {
      carry_out(i, u.server->resume(f.resume(), f.epoch(), "t"));
    } else if (u.server) {
      carry_out(i, u.server->on_frame(f, agenda_.now()));
    }
    try_step();
  }

  void detach(int i) {
    User& u = user(i);
    if (u.server) carry_out(i, u.server->detach());
  }

  void carry_out(int i, ServerActions actions) {
    User& u = user(i);
    if (actions.submit) u.wants_first = true;
    if (actions.offer) {
      u.offered = std::move(actions.offer->tree);
      u.offered_us = agenda_.now();
      if (!actions.offer->sent_ahead) u.think.offered(now_s());
    }
    if (actions.cancel) {
      u.offered.reset();
      u.wants_first = false;
    }
    for (pb::ServerFrame& f : actions.frames) send_down(i, std::move(f));
  }

  void send_down(int i, pb::ServerFrame frame) {
    if (swallowed(user(i))) return;
    agenda_.at(way(i), [this, i, link = user(i).link, f = std::move(frame)] {
      User& u = user(i);
      if (u.link != link || u.done) return;
      u.client.on_frame(f, agenda_.now());
      after(i);
      // The round that a right guess began is away already.
      if (!u.done && f.has_verdict() && f.verdict().used_branch() > 0) begin_guess(i);
    });
  }

  void restart() {
    for (auto& u : users_) {
      u->server.reset();
      u->offered.reset();
      u->wants_first = false;
      u->think.forget_decision();
      u->link++;
      if (o_.system == SimSystem::kEdge && !u->done) u->client.on_disconnected(agenda_.now());
    }
    for (int i = 0; i < o_.n_users; i++)
      if (o_.system == SimSystem::kEdge && !user(i).done && user(i).link > 1) after(i);
  }

  double now_s() const { return static_cast<double>(agenda_.now()) * 1e-6; }
  bool ready(const User& u) const { return !u.done && (u.offered || u.wants_first); }

  double wait_s() {
    DraftBatchingInput in;
    in.policy = o_.batching;
    expected_.clear();
    for (const auto& p : users_) {
      const User& u = *p;
      if (u.wants_first && !u.done) return 0;
      if (u.done || !u.server || u.server->ended()) continue;
      in.n_answers++;
      if (u.offered) {
        in.n_ready++;
        in.waited_s =
            std::max(in.waited_s,
                     static_cast<double>(agenda_.now() - std::max(u.offered_us, free_us_)) * 1e-6);
      } else if (const auto in_s = u.think.expected_in_s(now_s())) {
        expected_.push_back(*in_s);
      }
    }
    std::sort(expected_.begin(), expected_.end());
    in.expected_in_s = expected_;
    in.fixed_s = o_.step_fixed_s;
    in.draft_s = o_.step_row_s * (1 + o_.n_draft);
    return draft_wait_s(in);
  }

  void try_step() {
    if (busy_) return;
    std::vector<int> batch;
    int n_rows = 0;
    for (int i = 0; i < o_.n_users; i++) {
      User& u = user(i);
      if (!ready(u)) continue;
      batch.push_back(i);
      n_rows += 1 + (u.offered ? u.offered->size() : 0);
    }
    if (batch.empty()) return;
    if (o_.system == SimSystem::kEdge) {
      if (const double wait = wait_s(); wait > 0) {
        if (std::exchange(waking_, true)) return;
        return agenda_.at(agenda_.now() + std::max<int64_t>(1, us(wait)), [this] {
          waking_ = false;
          try_step();
        });
      }
    }
    double seconds = o_.step_fixed_s;
    if (o_.system == SimSystem::kServerOnly) {
      seconds += o_.server_draft_s;
      n_rows += static_cast<int>(batch.size()) * o_.n_draft;
    }
    seconds += o_.step_row_s * n_rows;
    busy_ = true;
    busy_s_ += seconds;
    n_rounds_ += batch.size();
    std::vector<std::optional<DraftTree>> trees;
    for (const int i : batch) {
      trees.push_back(std::exchange(user(i).offered, std::nullopt));
      user(i).wants_first = false;
    }
    agenda_.at(agenda_.now() + us(seconds),
               [this, batch = std::move(batch), trees = std::move(trees)] {
                 busy_ = false;
                 free_us_ = agenda_.now();
                 for (size_t k = 0; k < batch.size(); k++) end_step(batch[k], trees[k]);
                 try_step();
               });
  }

  void end_step(int i, const std::optional<DraftTree>& tree) {
    User& u = user(i);
    if (o_.system != SimSystem::kEdge) return end_own_step(i);
    if (!u.server || u.server->ended()) return;
    CompletionDelta d;
    d.of_draft = tree.has_value();
    d.n_draft_nodes = tree ? tree->size() : 0;
    d.step_s = o_.step_fixed_s;
    const int last = kPrompt + o_.n_tok;
    int position = u.server->log().size();
    int32_t at = DraftTree::kRoot;
    while (position < last) {
      d.tokens.push_back(truth(i, position++));
      at = tree ? tree->child(at, d.tokens.back()) : DraftTree::kRoot;
      if (at == DraftTree::kRoot) break;
    }
    if (position == last) d.finish = FinishReason::kLength;
    u.think.decided(now_s());
    carry_out(i, u.server->on_delta(d, agenda_.now()));
    if (d.finish) carry_out(i, u.server->on_end(nullptr));
  }

  // Without edges: the server streams, so the way delays, but does not slow.
  void end_own_step(int i) {
    User& u = user(i);
    std::vector<int32_t> tokens;
    const int first = kPrompt + u.n_own;
    int position = first;
    do {
      tokens.push_back(truth(i, position));
    } while (position - first < (o_.system == SimSystem::kServerOnly ? o_.n_draft : 0) &&
             guess(i, position) == truth(i, position) && ++position < kPrompt + o_.n_tok);
    u.n_own += static_cast<int>(tokens.size());
    note_tokens(i, first, tokens);
    u.wants_first = u.n_own < o_.n_tok;
    u.done = !u.wants_first;
  }

  SimResult result() {
    SimResult r;
    r.n_tok = n_tok_;
    r.seconds = static_cast<double>(end_us_) * 1e-6;
    r.tok_s = r.seconds > 0 ? static_cast<double>(n_tok_) / r.seconds : 0;
    std::sort(gaps_.begin(), gaps_.end());
    if (!gaps_.empty()) r.gap_p95_s = gaps_[gaps_.size() * 95 / 100];
    r.tok_per_round =
        n_decided_ ? static_cast<double>(n_tok_) / static_cast<double>(n_decided_) : 0;
    r.busy = r.seconds > 0 ? busy_s_ / r.seconds : 0;
    r.n_rounds = n_rounds_;
    r.n_wrong = n_wrong_;
    r.n_failed = n_failed_;
    for (const auto& u : users_) {
      r.n_hits += u->client.stats().n_hits;
      r.n_guessed += u->client.stats().n_guessed;
      r.n_resumes += u->client.stats().n_resumes;
    }
    return r;
  }

  const SimOptions o_;
  ProtocolLimits limits_;
  Agenda agenda_;
  std::vector<std::unique_ptr<User>> users_;
  int64_t free_us_ = 0;  // since then
  std::vector<double> expected_, gaps_;
  bool busy_ = false, waking_ = false;
  double busy_s_ = 0;
  int64_t end_us_ = 0;
  uint64_t n_sent_ = 0, n_tok_ = 0, n_decided_ = 0, n_rounds_ = 0, n_wrong_ = 0, n_failed_ = 0;
};

}  // namespace

SimResult simulate(const SimOptions& options) { return Simulation(options).run(); }

}  // namespace hob::edge
