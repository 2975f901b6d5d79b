#include "speculative/model_drafter.h"

#include <algorithm>

#include "base/error.h"
#include "sampling/draft_candidates.h"

namespace hob {
namespace {

constexpr int32_t kNotComputed = -1;

struct ModelState : DraftState {
  ModelState(Engine& e, const SamplingParams& s, uint32_t c)
      : engine(&e), seq(e.open()), sampling(s), choice(c) {}
  ~ModelState() override { engine->close(seq); }

  Engine* engine;
  int seq;
  SamplingParams sampling;
  uint32_t choice;
};

// One job's tree while it grows.
struct Growth {
  DraftJob* job = nullptr;
  ModelState* state = nullptr;
  int depth = 0;                  // levels computed
  std::vector<float> value;       // [node] that it and its ancestors come true
  std::vector<int32_t> computed;  // [node] its index in the engine's tree
  std::vector<int32_t> by_index;  // [index in the engine's tree] the node
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

  void draft(std::span<DraftJob> jobs) override {
    const EngineLimits& limits = engine_.limits();
    const int n_together =
        std::max(1, std::min(limits.max_rows, limits.max_logit_rows) / options_.beam);
    for (size_t i = 0; i < jobs.size(); i += static_cast<size_t>(n_together))
      draft_some(jobs.subspan(i, std::min(jobs.size() - i, static_cast<size_t>(n_together))));
  }

 private:
  void draft_some(std::span<DraftJob> jobs) {
    growing_.clear();
    for (DraftJob& job : jobs) {
      job.tree.clear();
      if (job.max_nodes <= 0 || job.max_depth <= 0) continue;
      Growth g{.job = &job,
               .state = static_cast<ModelState*>(job.state),
               .value = {},
               .computed = {},
               .by_index = {}};
      try {
        if (catch_up(*g.state, job.tokens)) growing_.push_back(std::move(g));
      } catch (const Error&) {
        restart(*g.state);
      }
    }
    try {
      while (compute_level()) {
      }
    } catch (const Error&) {
      for (Growth& g : growing_) restart(*g.state);
    }
    for (Growth& g : growing_) finish(g);
  }

  // A sequence in trouble begins anew next time.
  void restart(ModelState& s) {
    engine_.close(s.seq);
    s.seq = engine_.open();
  }

  // The draft model's sequence becomes `tokens`, all but the last rows computed; guesses of the
  // last tree that came true are kept. False: no room.
  bool catch_up(ModelState& s, std::span<const int32_t> tokens) {
    const std::span<const int32_t> present = engine_.tokens(s.seq);
    const auto same = static_cast<size_t>(
        std::mismatch(present.begin(), present.end(), tokens.begin(), tokens.end()).first -
        present.begin());
    const size_t most = tokens.size() - 1;  // the last one is computed for its logits
    if (engine_.error(s.seq) || engine_.n_pending(s.seq) > 0 || same < present.size() ||
        present.size() > most) {
      const size_t n_computed = static_cast<size_t>(engine_.n_computed(s.seq));
      engine_.rewind(s.seq, static_cast<int>(std::min({same, most, n_computed})));
    } else {
      const DraftTree& tree = engine_.tree(s.seq);
      path_.clear();
      int32_t at = DraftTree::kRoot;
      for (size_t i = present.size(); i < most; i++) {
        at = tree.child(at, tokens[i]);
        if (at == DraftTree::kRoot) break;
        path_.push_back(at);
      }
      engine_.accept(s.seq, path_);
    }
    const auto n_known = engine_.tokens(s.seq).size();
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
  bool pick_level(Growth& g) {
    const DraftTree& tree = g.job->tree;
    if (g.depth >= g.job->max_depth) return false;
    frontier_.clear();
    for (int32_t i = 0; i < tree.size(); i++)
      if (g.computed[static_cast<size_t>(i)] == kNotComputed &&
          g.value[static_cast<size_t>(i)] >= options_.least_value)
        frontier_.push_back(i);
    const auto n = std::min(frontier_.size(), static_cast<size_t>(options_.beam));
    if (n == 0 || worth_less(g)) return false;
    std::partial_sort(frontier_.begin(), frontier_.begin() + static_cast<std::ptrdiff_t>(n),
                      frontier_.end(), [&](int32_t a, int32_t b) {
                        const float x = g.value[static_cast<size_t>(a)];
                        const float y = g.value[static_cast<size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    if (!has_room(g.state->seq, engine_.tree(g.state->seq).size() + static_cast<int>(n)))
      return false;
    DraftTree level;
    for (size_t i = 0; i < n; i++) {
      const auto node = static_cast<size_t>(frontier_[i]);
      const int32_t parent = tree.parents[node];
      level.tokens.push_back(tree.tokens[node]);
      level.parents.push_back(parent == DraftTree::kRoot ? parent
                                                         : g.computed[static_cast<size_t>(parent)]);
      g.computed[node] = static_cast<int32_t>(g.by_index.size());
      g.by_index.push_back(frontier_[i]);
    }
    engine_.extend_tree(g.state->seq, level);
    return true;
  }

  // The tree is full of nodes that are likelier than any child that this level could bring.
  bool worth_less(const Growth& g) const {
    if (g.job->tree.size() < g.job->max_nodes) return false;
    std::vector<float> values = g.value;
    const auto last = values.begin() + g.job->max_nodes - 1;
    std::nth_element(values.begin(), last, values.end(), std::greater<>());
    float best = 0;
    for (const int32_t node : frontier_) best = std::max(best, g.value[static_cast<size_t>(node)]);
    return best <= *last;
  }

  // One forward pass for all jobs that still grow. False: none does.
  bool compute_level() {
    plan_.clear();
    by_seq_.clear();
    for (Growth& g : growing_) {
      const int seq = g.state->seq;
      const bool first = engine_.n_pending(seq) > 0;
      g.grows = g.grows && (first || pick_level(g));
      if (!g.grows) continue;
      plan_.push_back({seq, engine_.n_pending(seq) + engine_.n_pending_nodes(seq)});
      by_seq_.resize(std::max(by_seq_.size(), static_cast<size_t>(seq) + 1));
      by_seq_[static_cast<size_t>(seq)] = &g;
      if (!first) g.depth++;
    }
    if (plan_.empty()) return false;
    engine_.run(plan_, [&](int seq, int position, std::span<const float> logits) {
      add_children(*by_seq_[static_cast<size_t>(seq)], position, logits);
    });
    for (const RowPlan& p : plan_)
      if (engine_.error(p.seq)) std::rethrow_exception(engine_.error(p.seq));
    return true;
  }

  void add_children(Growth& g, int position, std::span<const float> logits) {
    const auto n_tok = static_cast<int>(g.job->tokens.size());
    const int32_t node =
        position < n_tok ? DraftTree::kRoot : g.by_index[static_cast<size_t>(position - n_tok)];
    int depth = 0;
    for (int32_t i = node; i != DraftTree::kRoot; i = g.job->tree.parents[static_cast<size_t>(i)])
      depth++;
    if (depth >= g.job->max_depth) return;
    const float value = node == DraftTree::kRoot ? 1.f : g.value[static_cast<size_t>(node)];
    draft_candidates(logits, g.state->sampling, static_cast<uint32_t>(n_tok + depth),
                     g.state->choice, options_.branch, candidates_);
    for (const DraftCandidate& c : candidates_) {
      g.job->tree.add(c.token, node, c.probability);
      g.value.push_back(value * c.probability);
      g.computed.push_back(kNotComputed);
    }
  }

  // The likeliest nodes, in topological order: no node is likelier than its parent.
  void finish(Growth& g) {
    DraftTree& tree = g.job->tree;
    std::vector<int32_t> best(tree.tokens.size());
    for (size_t i = 0; i < best.size(); i++) best[i] = static_cast<int32_t>(i);
    std::stable_sort(best.begin(), best.end(), [&](int32_t a, int32_t b) {
      return g.value[static_cast<size_t>(a)] > g.value[static_cast<size_t>(b)];
    });
    best.resize(std::min(best.size(), static_cast<size_t>(g.job->max_nodes)));
    std::sort(best.begin(), best.end());
    tree.keep(best);
  }

  Engine& engine_;
  const ModelDrafterOptions options_;
  std::vector<Growth> growing_;
  std::vector<RowPlan> plan_;
  std::vector<Growth*> by_seq_;
  std::vector<int32_t> frontier_, path_;
  std::vector<DraftCandidate> candidates_;
};

}  // namespace

std::unique_ptr<Drafter> make_model_drafter(Engine& engine, const ModelDrafterOptions& options) {
  return std::make_unique<ModelDrafter>(engine, options);
}

}  // namespace hob
