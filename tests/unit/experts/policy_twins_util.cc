#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "unit/experts/policy_twins.h"

namespace hob {
namespace {

using Use = History::Use;

bool same_copy(const History& h, const Use& u, int copy) {
  return u.expert == h.shape.expert_of(copy) && (u.used == Precision::kLow) == h.is_low(copy);
}

// Number of the last use that `which` accepts, over all sequences; 0 = none.
template <class Which>
double last_serial(const History& h, Which which) {
  double serial = 0, last = 0;
  for (const auto& sequence : h.sequences)
    for (const Use& u : sequence) {
      serial++;
      if (which(u)) last = serial;
    }
  return last;
}

double tokens_so_far(const History& h, const EvictionRequest& r) {
  const auto& now = h.sequences.back();
  return now.empty() ? 1 : static_cast<double>(r.step - now.front().step + 1);
}

int cyclic(int from, int to, int n) { return (to - from + n) % n; }

TwinValue lru(const History& h, int copy, const EvictionRequest&) {
  return {last_serial(h, [&](const Use& u) { return same_copy(h, u, copy); }), 0};
}

TwinValue lfu(const History& h, int copy, const EvictionRequest&) {
  double n = 0;
  for (const Use& u : h.sequences.back()) n += u.expert == h.shape.expert_of(copy);
  return {n, last_serial(h, [&](const Use& u) { return u.expert == h.shape.expert_of(copy); })};
}

TwinValue lhu(const History& h, int copy, const EvictionRequest& r) {
  double n = 0;
  for (const Use& u : h.sequences.back()) n += same_copy(h, u, copy);
  return {n, lru(h, copy, r).first};
}

TwinValue mix(const History& h, int copy, const EvictionRequest& r, const double (&w)[4]) {
  const auto& now = h.sequences.back();
  double last = 0, f = 0, own = 0, serial = 0, last_own = 0;
  for (const Use& u : now) {
    serial++;
    if (u.expert != h.shape.expert_of(copy)) continue;
    f++;
    if (!same_copy(h, u, copy)) continue;
    own++;
    last = static_cast<double>(u.step - now.front().step + 1);
    last_own = serial;
  }
  const double t = tokens_so_far(h, r);
  const int n = h.shape.n_layers;
  const double far = 1 - static_cast<double>(cyclic(r.layer, h.layer(copy), n)) / n;
  return {w[0] * last / t + w[1] * f / t + w[2] * own / t + w[3] * far, last_own};
}

TwinValue fld(const History& h, int copy, const EvictionRequest& r) {
  return mix(h, copy, r, {0, 0, 0, 1});
}
TwinValue hobbit(const History& h, int copy, const EvictionRequest& r) {
  return {mix(h, copy, r, {.25, .25, .25, .25}).first, 0};
}
TwinValue hobbit_weighted(const History& h, int copy, const EvictionRequest& r) {
  return {mix(h, copy, r, {.5, .125, .25, .125}).first, 0};
}

TwinValue lcu(const History& h, int copy, const EvictionRequest& r) {
  double cost = 0;
  bool recent = false;
  for (const Use& u : h.sequences.back()) {
    if (u.expert != h.shape.expert_of(copy)) continue;
    cost += u.used == Precision::kHigh ? 1 : h.shape.low_ratio;
    recent = u.step >= r.step - 1;
  }
  const double d = cyclic(r.layer, h.layer(copy), h.shape.n_layers) + 0.1;
  return {cost / tokens_so_far(h, r) + (recent ? 1 / d : 0), 0};
}

TwinValue ewma(const History& h, int copy, const EvictionRequest& r) {
  double score = 0;
  for (const auto& sequence : h.sequences)
    for (const Use& u : sequence)
      if (u.expert == h.shape.expert_of(copy))
        score += std::pow(0.9, static_cast<double>(r.step - u.step));
  return {score, 0};
}

// p from the definition: every step visits every layer.
TwinValue ewma_layer(const History& h, int copy, const EvictionRequest& r) {
  const double used = ewma(h, copy, r).first;
  if (used == 0) return {-std::numeric_limits<double>::infinity(), 0};
  int64_t first = r.step;
  for (const auto& sequence : h.sequences)
    if (!sequence.empty()) first = std::min(first, sequence.front().step);
  const bool ahead = h.layer(copy) > r.layer;
  double visits = 0;
  for (int64_t s = first; s <= (ahead ? r.step - 1 : r.step); s++)
    visits += std::pow(0.9, static_cast<double>(r.step - s));
  const int n = h.shape.n_layers;
  const int way = ahead ? h.layer(copy) - r.layer : h.layer(copy) - r.layer + n;
  return {-(static_cast<double>(way) / n + visits / used), 0};
}

TwinValue least_stale(const History& h, int copy, const EvictionRequest& r) {
  double loaded = 0;
  for (size_t i = 0; i < h.loads.size(); i++)
    if (h.loads[i] == copy) loaded = static_cast<double>(i + 1);
  return {h.layer(copy) > r.layer ? 1 : 0, loaded};
}

struct Activity {
  std::vector<double> counts;
  double passes = 0;
};

Activity activity(const History& h, const std::vector<Use>& sequence, int64_t before_step) {
  Activity a;
  a.counts.assign(static_cast<size_t>(h.shape.n_experts()), 0);
  std::set<int64_t> steps;
  for (const Use& u : sequence) {
    if (u.step >= before_step) continue;
    a.counts[static_cast<size_t>(u.expert)]++;
    steps.insert(u.step);
  }
  a.passes = static_cast<double>(steps.size());
  return a;
}

double similarity(const History& h, const Activity& a, const Activity& b) {
  std::vector<double> ab(static_cast<size_t>(h.shape.n_layers)), aa(ab), bb(ab);
  for (size_t e = 0; e < a.counts.size(); e++) {
    const auto l = static_cast<size_t>(h.shape.layer_of[e]);
    ab[l] += a.counts[e] * b.counts[e];
    aa[l] += a.counts[e] * a.counts[e];
    bb[l] += b.counts[e] * b.counts[e];
  }
  double sum = 0;
  for (size_t l = 0; l < ab.size(); l++)
    if (aa[l] * bb[l] > 0) sum += ab[l] / std::sqrt(aa[l] * bb[l]);
  return sum;
}

TwinValue activation(const History& h, int copy, const EvictionRequest& r) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  constexpr double kPrior = 16;
  const auto& now = h.sequences.back();
  const Activity a = activity(h, now, kAll);
  const Activity before = activity(h, now, now.empty() ? 0 : now.back().step);
  double past_share = 0, best = -1;
  for (size_t i = 0; !now.empty() && i + 1 < h.sequences.size(); i++) {
    if (h.sequences[i].empty()) continue;
    const Activity past = activity(h, h.sequences[i], kAll);
    const double s = similarity(h, before, past);
    if (s < best - 1e-12) continue;
    best = s;
    past_share = past.counts[static_cast<size_t>(h.shape.expert_of(copy))] / past.passes;
  }
  const int n = h.shape.n_layers;
  const int way = h.layer(copy) > r.layer ? h.layer(copy) - r.layer : h.layer(copy) - r.layer + n;
  const double share =
      (a.counts[static_cast<size_t>(h.shape.expert_of(copy))] + kPrior * past_share) /
      (a.passes + kPrior);
  return {(share + 1e-8) * (1 - static_cast<double>(way - 1) / n), 0};
}

// Half of the slots, learnt in the first 32 steps.
TwinValue static_pin(const History& h, int copy, const EvictionRequest& r) {
  std::vector<int> counts(static_cast<size_t>(h.shape.n_experts()), 0);
  int64_t first = -1, last = -1;
  for (const auto& sequence : h.sequences)
    for (const Use& u : sequence) {
      if (first < 0) first = u.step;
      last = u.step;
      if (u.step - first < 32) counts[static_cast<size_t>(u.expert)]++;
    }
  bool pinned = false;
  if (first >= 0 && last - first >= 32 && !h.is_low(copy)) {
    int before = 0;
    for (int e = 0; e < h.shape.n_experts(); e++) {
      const int c = counts[static_cast<size_t>(e)], own = counts[static_cast<size_t>(copy)];
      before += c > own || (c == own && e < copy);
    }
    pinned = before < h.shape.n_slots / 2;
  }
  return {pinned ? 1 : 0, lru(h, copy, r).first};
}

}  // namespace

const std::vector<TwinRow>& policy_twins() {
  static const std::vector<TwinRow> kTwins = {
      {"activation", activation},
      {"ewma", ewma},
      {"ewma-layer", ewma_layer},
      {"fld", fld},
      {"hobbit", hobbit},
      {"hobbit:4,1,2,1", hobbit_weighted},
      {"lcu", lcu},
      {"least-stale", least_stale},
      {"lfu", lfu},
      {"lhu", lhu},
      {"lru", lru},
      {"static-pin", static_pin},
  };
  return kTwins;
}

}  // namespace hob
