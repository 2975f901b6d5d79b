#include "speculative/model_drafter.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "base/error.h"
#include "sampling/draft_candidates.h"

namespace hob {
namespace {

constexpr int32_t kNotComputed = -1;

// Guesses behind a text, as far as they have grown.
struct Growth {
  DraftTree tree;                 // with confidence
  std::vector<float> value;       // [node] that it and its ancestors come true
  std::vector<int> depth;         // [node] from 1
  std::vector<int32_t> computed;  // [node] its index in the engine's tree
  std::vector<int32_t> by_index;  // [index in the engine's tree] the node

  void add(int32_t parent, const DraftCandidate& c) {
    const bool at_root = parent == DraftTree::kRoot;
    const auto p = static_cast<size_t>(parent);
    tree.add(c.token, parent, c.probability);
    value.push_back((at_root ? 1.f : value[p]) * c.probability);
    depth.push_back(at_root ? 1 : depth[p] + 1);
    computed.push_back(kNotComputed);
  }
};

struct ModelState : DraftState {
  ModelState(Engine& e, const SamplingParams& s, uint32_t c)
      : engine(&e), seq(e.open()), sampling(s), choice(c) {}
  ~ModelState() override { engine->close(seq); }

  Engine* engine;
  int seq;
  SamplingParams sampling;
  uint32_t choice;
  Growth growth;  // behind engine->tokens(seq); nothing while tokens are pending
};

// A state that grows, and how far.
struct Goal {
  ModelState* state = nullptr;
  int max_nodes = 0, max_depth = 0;
  float least_value = 0;
  int n_levels = 0;  // computed so far
  bool grows = true;
};

class ModelDrafter : public Drafter {
 public:
  ModelDrafter(Engine& engine, const ModelDrafterOptions& options)
      : engine_(engine), options_(options) {}

  std::string_view name() const override { return "model"; }

  std::unique_ptr<DraftState> open(const SamplingParams& sampling, uint32_t choice) override {
    return std::make_unique<ModelState>(engine_, sampling, choice);
  }

  void set_hint(DraftHint hint) override { hint_ = std::move(hint); }

  void draft(std::span<DraftJob> jobs) override {
    tell_roots(jobs);
    for (size_t i = 0; i < jobs.size(); i += n_together())
      draft_some(jobs.subspan(i, std::min(jobs.size() - i, n_together())));
  }

  void write(std::span<DraftJob> jobs) override {
    for (DraftJob& job : jobs) job.max_nodes = job.max_depth = 1;
    draft(jobs);
  }

  bool look_ahead(std::span<DraftJob> jobs) override {
    bool any = false;
    for (size_t i = 0; i < jobs.size(); i += n_together()) {
      set_goals(jobs.subspan(i, std::min(jobs.size() - i, n_together())), true);
      any = try_level() || any;
    }
    return any;
  }

  std::vector<OutcomeGuess> guess_outcomes(DraftState& state, std::span<const int32_t> tokens,
                                           const DraftTree& sent, int max_guesses,
                                           int max_nodes) override {
    auto& s = static_cast<ModelState&>(state);
    const std::span<const int32_t> text = engine_.tokens(s.seq);
    if (!std::equal(text.begin(), text.end(), tokens.begin(), tokens.end())) return {};
    return likely_ends(s.growth, sent, max_guesses, max_nodes);
  }

 private:
  // Nothing that is less likely is worth a forward pass, though nobody waits for that.
  static constexpr float kLeastAhead = 0.001f;
  static constexpr size_t kMostAhead = 512;  // nodes computed behind a text

  size_t n_together() const {
    const EngineLimits& limits = engine_.limits();
    return static_cast<size_t>(
        std::max(1, std::min(limits.max_rows, limits.max_logit_rows) / options_.beam));
  }

  // The step computes the newest tokens in any case.
  void tell_roots(std::span<const DraftJob> jobs) {
    if (!hint_) return;
    hints_.clear();
    for (const DraftJob& job : jobs)
      if (!job.tokens.empty()) hints_.push_back(job.tokens.back());
    hint_(hints_);
  }

  void set_goals(std::span<DraftJob> jobs, bool ahead) {
    goals_.clear();
    for (DraftJob& job : jobs) {
      auto* state = static_cast<ModelState*>(job.state);
      try {
        if (!go_to(*state, job.tokens)) continue;
      } catch (const Error&) {
        restart(*state);
        continue;
      }
      if (ahead)
        goals_.push_back({.state = state,
                          .max_nodes = INT32_MAX,
                          .max_depth = INT32_MAX,
                          .least_value = kLeastAhead});
      else
        goals_.push_back({.state = state,
                          .max_nodes = job.max_nodes,
                          .max_depth = job.max_depth,
                          .least_value = options_.least_value});
    }
  }

  void draft_some(std::span<DraftJob> jobs) {
    for (DraftJob& job : jobs) job.tree.clear();
    const auto wants_none = [](const DraftJob& job) {
      return job.max_nodes <= 0 || job.max_depth <= 0;
    };
    wanted_.clear();
    for (DraftJob& job : jobs)
      if (!wants_none(job)) wanted_.push_back(job);
    set_goals(wanted_, false);
    while (try_level()) {
    }
    for (DraftJob& job : jobs)
      if (!wants_none(job)) finish(static_cast<ModelState*>(job.state)->growth, job);
  }

  bool try_level() {
    try {
      return compute_level();
    } catch (const Error&) {
      for (const Goal& g : goals_) restart(*g.state);
      goals_.clear();
      return false;
    }
  }

  // A sequence in trouble begins anew next time.
  void restart(ModelState& s) {
    engine_.close(s.seq);
    s.seq = engine_.open();
    s.growth = {};
  }

  // The state's text becomes `tokens`; guesses that came true stay, and what has grown behind them.
  // False: no room.
  bool go_to(ModelState& s, std::span<const int32_t> tokens) {
    const std::span<const int32_t> present = engine_.tokens(s.seq);
    const auto same = static_cast<size_t>(
        std::mismatch(present.begin(), present.end(), tokens.begin(), tokens.end()).first -
        present.begin());
    if (engine_.error(s.seq) || engine_.n_pending(s.seq) > 0 || same < present.size()) {
      const size_t n_computed = static_cast<size_t>(engine_.n_computed(s.seq));
      // The last token is computed for its logits.
      engine_.rewind(s.seq, static_cast<int>(std::min({same, tokens.size() - 1, n_computed})));
      s.growth = {};
    } else if (!s.growth.tree.empty()) {
      reroot(s, tokens.subspan(present.size()));
    } else if (present.size() == tokens.size()) {
      engine_.rewind(s.seq, static_cast<int>(tokens.size()) - 1);
    }
    return feed_rest(s, tokens);
  }

  // Follows `more` through the growth as far as it has been computed.
  void reroot(ModelState& s, std::span<const int32_t> more) {
    Growth& g = s.growth;
    path_.clear();
    int32_t root = DraftTree::kRoot;
    for (const int32_t token : more) {
      const int32_t next = g.tree.child(root, token);
      if (next == DraftTree::kRoot || g.computed[static_cast<size_t>(next)] == kNotComputed) break;
      path_.push_back(g.computed[static_cast<size_t>(next)]);
      root = next;
    }
    if (more.empty()) return;
    const bool all = path_.size() == more.size();
    Growth rest;
    keep_.clear();
    if (all) move_subtree(g, root, rest);
    engine_.accept(s.seq, path_, keep_);
    g = std::move(rest);
  }

  // What stands behind node `root`; keep_ gets the engine's nodes of it, in the order that they
  // will have.
  void move_subtree(const Growth& from, int32_t root, Growth& to) {
    constexpr int32_t kOutside = -2;
    std::vector<int32_t> new_node(from.value.size(), kOutside);
    new_node[static_cast<size_t>(root)] = DraftTree::kRoot;
    for (size_t i = static_cast<size_t>(root) + 1; i < from.value.size(); i++) {
      const int32_t parent = from.tree.parents[i];
      if (parent == DraftTree::kRoot || new_node[static_cast<size_t>(parent)] == kOutside) continue;
      new_node[i] = to.tree.size();
      to.add(new_node[static_cast<size_t>(parent)],
             {.token = from.tree.tokens[i], .probability = from.tree.confidence[i]});
    }
    for (const int32_t node : from.by_index) {
      const int32_t kept = new_node[static_cast<size_t>(node)];
      if (kept < 0) continue;
      keep_.push_back(from.computed[static_cast<size_t>(node)]);
      to.computed[static_cast<size_t>(kept)] = static_cast<int32_t>(to.by_index.size());
      to.by_index.push_back(kept);
    }
  }

  bool feed_rest(ModelState& s, std::span<const int32_t> tokens) {
    const auto n_known = engine_.tokens(s.seq).size();
    if (n_known == tokens.size()) return true;
    s.growth = {};
    if (tokens.size() + 1 > static_cast<size_t>(engine_.limits().n_ctx)) return false;
    engine_.feed(s.seq, tokens.subspan(n_known), 1);
    while (engine_.n_pending(s.seq) > options_.beam) {
      const int n = std::min(engine_.n_pending(s.seq) - options_.beam, engine_.limits().max_rows);
      if (!has_room(s.seq, n)) return false;
      const RowPlan plan{s.seq, n};
      engine_.run({&plan, 1}, {});
      if (engine_.error(s.seq)) std::rethrow_exception(engine_.error(s.seq));
    }
    return has_room(s.seq, engine_.n_pending(s.seq));
  }

  bool has_room(int seq, int n) const {
    return engine_.n_blocks_needed(seq, n) <= engine_.kv().n_free_blocks();
  }

  // The best nodes that are not computed yet go to the engine. False: none is worth it.
  bool pick_level(const Goal& goal) {
    Growth& g = goal.state->growth;
    const int seq = goal.state->seq;
    if (goal.n_levels >= goal.max_depth || g.by_index.size() >= kMostAhead) return false;
    frontier_.clear();
    for (int32_t i = 0; i < g.tree.size(); i++) {
      const auto node = static_cast<size_t>(i);
      if (g.computed[node] == kNotComputed && g.value[node] >= goal.least_value &&
          g.depth[node] < goal.max_depth)
        frontier_.push_back(i);
    }
    const auto n = std::min(frontier_.size(), static_cast<size_t>(options_.beam));
    if (n == 0 || worth_less(goal)) return false;
    std::partial_sort(frontier_.begin(), frontier_.begin() + static_cast<std::ptrdiff_t>(n),
                      frontier_.end(), [&](int32_t a, int32_t b) {
                        const float x = g.value[static_cast<size_t>(a)];
                        const float y = g.value[static_cast<size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    if (!has_room(seq, engine_.tree(seq).size() + static_cast<int>(n))) return false;
    DraftTree level;
    for (size_t i = 0; i < n; i++) {
      const auto node = static_cast<size_t>(frontier_[i]);
      const int32_t parent = g.tree.parents[node];
      level.tokens.push_back(g.tree.tokens[node]);
      level.parents.push_back(parent == DraftTree::kRoot ? parent
                                                         : g.computed[static_cast<size_t>(parent)]);
      g.computed[node] = static_cast<int32_t>(g.by_index.size());
      g.by_index.push_back(frontier_[i]);
    }
    if (hint_) hint_(level.tokens);
    engine_.extend_tree(seq, level);
    return true;
  }

  // The tree is full of nodes that are likelier than any child that this level could bring.
  bool worth_less(const Goal& goal) const {
    const Growth& g = goal.state->growth;
    if (g.tree.size() < goal.max_nodes) return false;
    std::vector<float> values = g.value;
    const auto last = values.begin() + goal.max_nodes - 1;
    std::nth_element(values.begin(), last, values.end(), std::greater<>());
    float best = 0;
    for (const int32_t node : frontier_) best = std::max(best, g.value[static_cast<size_t>(node)]);
    return best <= *last;
  }

  // One forward pass for all goals that still grow. False: none does.
  bool compute_level() {
    plan_.clear();
    by_seq_.clear();
    for (Goal& g : goals_) {
      const int seq = g.state->seq;
      const bool first = engine_.n_pending(seq) > 0;
      g.grows = g.grows && (first || pick_level(g));
      if (!g.grows) continue;
      plan_.push_back({seq, engine_.n_pending(seq) + engine_.n_pending_nodes(seq)});
      by_seq_.resize(std::max(by_seq_.size(), static_cast<size_t>(seq) + 1));
      by_seq_[static_cast<size_t>(seq)] = g.state;
      if (!first) g.n_levels++;
    }
    if (plan_.empty()) return false;
    const auto start = std::chrono::steady_clock::now();
    engine_.run(plan_, [&](int seq, int position, std::span<const float> logits) {
      add_children(*by_seq_[static_cast<size_t>(seq)], position, logits);
    });
    if (options_.pass_floor_s > 0)
      std::this_thread::sleep_until(start +
                                    std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                        std::chrono::duration<double>(options_.pass_floor_s)));
    for (const RowPlan& p : plan_)
      if (engine_.error(p.seq)) std::rethrow_exception(engine_.error(p.seq));
    return true;
  }

  void add_children(ModelState& s, int position, std::span<const float> logits) {
    Growth& g = s.growth;
    const auto n_tok = static_cast<int>(engine_.tokens(s.seq).size());
    const int32_t node =
        position < n_tok ? DraftTree::kRoot : g.by_index[static_cast<size_t>(position - n_tok)];
    const int depth = node == DraftTree::kRoot ? 0 : g.depth[static_cast<size_t>(node)];
    draft_candidates(logits, s.sampling, static_cast<uint32_t>(n_tok + depth), s.choice,
                     options_.branch, candidates_);
    for (const DraftCandidate& c : candidates_) g.add(node, c);
  }

  // The likeliest nodes, in topological order: no node is likelier than its parent.
  static void finish(const Growth& g, DraftJob& job) {
    std::vector<int32_t> best;
    for (int32_t i = 0; i < g.tree.size(); i++)
      if (g.depth[static_cast<size_t>(i)] <= job.max_depth) best.push_back(i);
    take_best(g, best, job.max_nodes);
    job.tree = g.tree;
    job.tree.keep(best);
  }

  static void take_best(const Growth& g, std::vector<int32_t>& nodes, int n) {
    std::sort(nodes.begin(), nodes.end(), [&](int32_t a, int32_t b) {
      const float x = g.value[static_cast<size_t>(a)], y = g.value[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    });
    nodes.resize(std::min(nodes.size(), static_cast<size_t>(std::max(0, n))));
    std::sort(nodes.begin(), nodes.end());
  }

  // An end of the round: the way through `sent` leaves it for a child that has been guessed too,
  // but not sent. What has grown behind that child is the tree to verify next.
  static std::vector<OutcomeGuess> likely_ends(const Growth& g, const DraftTree& sent,
                                               int max_guesses, int max_nodes) {
    std::vector<int32_t> sent_node(g.value.size(), DraftTree::kRoot);  // [node] of `sent`
    std::vector<int32_t> own(sent.tokens.size(), DraftTree::kRoot);    // [node of sent]
    for (size_t i = 0; i < own.size(); i++) {
      const int32_t p = sent.parents[i];
      if (p != DraftTree::kRoot && own[static_cast<size_t>(p)] == DraftTree::kRoot) continue;
      own[i] =
          g.tree.child(p == DraftTree::kRoot ? p : own[static_cast<size_t>(p)], sent.tokens[i]);
      if (own[i] != DraftTree::kRoot)
        sent_node[static_cast<size_t>(own[i])] = static_cast<int32_t>(i);
    }
    std::vector<int32_t> ends;
    for (int32_t c = 0; c < g.tree.size(); c++) {
      const auto node = static_cast<size_t>(c);
      const int32_t p = g.tree.parents[node];
      const bool leaves = p == DraftTree::kRoot || sent_node[static_cast<size_t>(p)] >= 0;
      if (leaves && sent_node[node] < 0 && g.computed[node] != kNotComputed) ends.push_back(c);
    }
    take_best(g, ends, max_guesses);
    std::vector<OutcomeGuess> guesses;
    for (const int32_t c : ends) {
      const int32_t p = g.tree.parents[static_cast<size_t>(c)];
      OutcomeGuess guess{.node = p == DraftTree::kRoot ? p : sent_node[static_cast<size_t>(p)],
                         .bonus = g.tree.tokens[static_cast<size_t>(c)],
                         .tree = subtree(g, c, max_nodes)};
      if (!guess.tree.empty()) guesses.push_back(std::move(guess));
    }
    return guesses;
  }

  static DraftTree subtree(const Growth& g, int32_t root, int max_nodes) {
    std::vector<int32_t> nodes;
    std::vector<uint8_t> below(g.value.size(), 0);
    below[static_cast<size_t>(root)] = 1;
    for (int32_t i = root + 1; i < g.tree.size(); i++) {
      const int32_t p = g.tree.parents[static_cast<size_t>(i)];
      if (p == DraftTree::kRoot || !below[static_cast<size_t>(p)]) continue;
      below[static_cast<size_t>(i)] = 1;
      nodes.push_back(i);
    }
    take_best(g, nodes, max_nodes);
    DraftTree tree;
    std::vector<int32_t> new_node(g.value.size(), DraftTree::kRoot);
    for (const int32_t i : nodes) {
      const auto node = static_cast<size_t>(i);
      new_node[node] = tree.size();
      tree.add(g.tree.tokens[node], new_node[static_cast<size_t>(g.tree.parents[node])],
               g.tree.confidence[node]);
    }
    return tree;
  }

  Engine& engine_;
  const ModelDrafterOptions options_;
  std::vector<Goal> goals_;
  std::vector<DraftJob> wanted_;
  std::vector<RowPlan> plan_;
  std::vector<ModelState*> by_seq_;
  std::vector<int32_t> frontier_, path_, keep_, hints_;
  DraftHint hint_;
  std::vector<DraftCandidate> candidates_;
};

}  // namespace

std::unique_ptr<Drafter> make_model_drafter(Engine& engine, const ModelDrafterOptions& options) {
  return std::make_unique<ModelDrafter>(engine, options);
}

}  // namespace hob
