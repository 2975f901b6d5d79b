#include "engine/trace_sim.h"

#include <algorithm>

#include "base/error.h"
#include "experts/policies/belady.h"
#include "experts/policy_table.h"

namespace hob {
namespace {

void check_turns(const std::vector<RouteTrace>& turns, bool sizes_given) {
  HOB_CHECK(!turns.empty());
  const RouteTrace& a = turns.front();
  for (const RouteTrace& t : turns)
    if (t.n_layers != a.n_layers || t.n_experts != a.n_experts || t.top_k != a.top_k)
      fail(Code::kInvalidArgument, "[trace] expected turns of one model, shapes differ");
  for (int layer = 0; layer < a.n_layers; layer++)
    if (!sizes_given && a.has(a.n_tok() - 1, layer) &&
        (a.expert_bytes.empty() || a.expert_bytes[static_cast<size_t>(layer)] == 0))
      fail(Code::kInvalidArgument,
           "[trace] {}: expected a line '# layer={} expert_bytes=N', there is none", a.model,
           layer);
}

// A layer that routes nothing has no experts to count.
SimShape shape_of(const RouteTrace& t, const ReplayOptions& o) {
  SimShape shape{.n_layers = t.n_layers,
                 .n_experts = t.n_experts,
                 .expert_bytes = t.expert_bytes,
                 .low_ratio = o.low_ratio};
  if (o.expert_bytes) shape.expert_bytes.assign(static_cast<size_t>(t.n_layers), o.expert_bytes);
  for (int layer = 0; layer < t.n_layers; layer++)
    if (!t.has(t.n_tok() - 1, layer)) shape.expert_bytes[static_cast<size_t>(layer)] = 0;
  return shape;
}

class Builder {
 public:
  Builder(const std::vector<RouteTrace>& turns, const ReplayOptions& o)
      : turns_(turns),
        o_(o),
        k_(static_cast<size_t>(turns.front().top_k)),
        weights_(k_),
        scores_(k_) {
    replay_.shape = shape_of(turns.front(), o);
    replay_.thresholds = o.thresholds ? *o.thresholds : profile();
    use_of_.assign(static_cast<size_t>(turns.front().n_experts), -1);
  }

  Replay build() {
    for (const RouteTrace& t : turns_) {
      turn_begins_ = true;
      if (o_.warmup == Warmup::kChunk && t.n_prompt_tok > 0) add_step(t, 0, t.n_prompt_tok, false);
      if (o_.warmup == Warmup::kTokens)
        for (int token = 0; token < t.n_prompt_tok; token++) add_step(t, token, token + 1, false);
      for (int token = t.n_prompt_tok; token < t.n_tok(); token++)
        add_step(t, token, token + 1, true);
      replay_.n_decode_tok += t.n_decode_tok;
    }
    uint64_t bytes = 0;
    for (const Replay::Demand& d : replay_.demands)
      if (d.counted) bytes += d.n * replay_.shape.expert_bytes[static_cast<size_t>(d.layer)];
    replay_.bytes_per_tok = bytes / static_cast<uint64_t>(replay_.n_decode_tok);
    return std::move(replay_);
  }

 private:
  // Scores of the row's choices into scores_.
  void score(const TraceChoice* row) {
    for (size_t i = 0; i < k_; i++) weights_[i] = row[i].weight;
    unimportance(weights_, scores_);
    rank0_ =
        static_cast<size_t>(std::max_element(weights_.begin(), weights_.end()) - weights_.begin());
  }

  // Of the decode tokens: those are what the thresholds serve.
  Thresholds profile() {
    std::vector<float> all;
    for (const RouteTrace& t : turns_)
      for (int token = t.n_prompt_tok; token < t.n_tok(); token++)
        for (int layer = 0; layer < t.n_layers; layer++) {
          if (!t.has(token, layer)) continue;
          score(t.at(token, layer));
          for (size_t i = 0; i < k_; i++)
            if (i != rank0_) all.push_back(scores_[i]);
        }
    return quantile_thresholds(all, o_.q1, o_.q2);
  }

  // Tokens [begin, end) in one step: per layer the distinct experts, in order of first appearance.
  void add_step(const RouteTrace& t, int begin, int end, bool counted) {
    for (int layer = 0; layer < t.n_layers; layer++) {
      const size_t first = replay_.uses.size();
      for (int token = begin; token < end; token++)
        if (t.has(token, layer)) add_row(t.at(token, layer));
      const size_t n = replay_.uses.size() - first;
      if (n == 0) continue;
      for (size_t i = first; i < first + n; i++)
        use_of_[static_cast<size_t>(replay_.uses[i].expert)] = -1;
      replay_.demands.push_back({.layer = layer,
                                 .step = step_,
                                 .counted = counted,
                                 .starts_sequence = std::exchange(turn_begins_, false),
                                 .first = static_cast<uint32_t>(first),
                                 .n = static_cast<uint32_t>(n)});
    }
    step_++;
  }

  void add_row(const TraceChoice* row) {
    score(row);
    double total = 0;
    for (const float w : weights_) total += static_cast<double>(w);
    for (size_t i = 0; i < k_; i++) {
      int32_t& use = use_of_[static_cast<size_t>(row[i].expert)];
      if (use < 0) {
        use = static_cast<int32_t>(replay_.uses.size());
        replay_.uses.push_back(
            {.expert = row[i].expert, .want = Want::kSkip, .n_rows = 0, .mass = 0});
      }
      SimUse& u = replay_.uses[static_cast<size_t>(use)];
      u.want = std::max(u.want, wanted(scores_[i], i == rank0_, o_.mode, replay_.thresholds));
      u.n_rows++;
      if (total > 0) u.mass += static_cast<float>(static_cast<double>(weights_[i]) / total);
    }
  }

  const std::vector<RouteTrace>& turns_;
  const ReplayOptions& o_;
  const size_t k_;
  std::vector<float> weights_, scores_;
  size_t rank0_ = 0;
  std::vector<int32_t> use_of_;  // [expert] its use in the present demand, or -1
  int64_t step_ = 0;
  bool turn_begins_ = true;
  Replay replay_;
};

// Uses that nobody would load do not count as future: keeping a copy for them saves nothing.
std::unique_ptr<ExpertPolicy> make_belady(const Replay& r, const PolicyShape& shape) {
  std::vector<std::vector<int64_t>> future(static_cast<size_t>(shape.n_experts()));
  for (const Replay::Demand& d : r.demands)
    for (uint32_t i = d.first; i < d.first + d.n; i++)
      if (r.uses[i].want != Want::kSkip)
        future[static_cast<size_t>(d.layer * r.shape.n_experts + r.uses[i].expert)].push_back(
            d.step);
  return make_belady_policy(shape, std::move(future));
}

}  // namespace

Replay make_replay(const std::vector<RouteTrace>& turns, const ReplayOptions& options) {
  check_turns(turns, options.expert_bytes > 0);
  return Builder(turns, options).build();
}

SimCounts simulate(const Replay& r, const SimJob& job) {
  const PolicyShape shape = r.shape.policy_shape(job.budget.high_bytes);
  CacheSim cache(r.shape, job.budget,
                 job.policy == "belady" ? make_belady(r, shape) : make_policy(job.policy, shape));
  SimCounts total;
  for (const Replay::Demand& d : r.demands) {
    if (d.starts_sequence) cache.start_sequence();
    SimCounts n = cache.demand(d.layer, std::span(r.uses).subspan(d.first, d.n), d.step);
    if (!d.counted) continue;
    if (n.bytes > 0)
      n.stall_s = job.disk.latency_s + static_cast<double>(n.bytes) / job.disk.bytes_per_s;
    total += n;
  }
  return total;
}

}  // namespace hob
