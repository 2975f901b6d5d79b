#include "model/layers/prefetcher.h"

#include <algorithm>
#include <array>

namespace hob {
namespace {

// Above this share of a layer's experts a step may as well read all of the next layer's: ds4's
// chunks gained from reading only the union below about 60 % and lost above (research notes, hobbit
// §3.4).
constexpr double kUnionForAll = 0.6;

}  // namespace

Prefetcher::Prefetcher(const ModelSpec& spec, int top_k)
    : n_experts_(spec.moe.n_experts),
      n_layers_(spec.n_layers),
      pairs_(spec.n_layers, spec.moe.n_experts),
      tokens_(spec.n_vocab, spec.moe.n_experts, top_k),
      before_(static_cast<size_t>(kSmallStep) * static_cast<size_t>(top_k)),
      logits_(static_cast<size_t>(kMaxDepth) * kSmallStep * static_cast<size_t>(n_experts_)),
      ids_(before_.size()),
      weights_(before_.size()),
      choice_wants_(before_.size()),
      best_(static_cast<size_t>(n_experts_)) {
  wants_.reserve(static_cast<size_t>(n_experts_));
}

uint64_t Prefetcher::bytes(const ModelSpec& spec, int top_k) {
  const auto n = static_cast<uint64_t>(spec.moe.n_experts);
  const uint64_t per_choice = 2 * sizeof(int32_t) + sizeof(float) + sizeof(Want);
  return PairTable::bytes(spec.n_layers, spec.moe.n_experts) +
         TokenRoutes::bytes(spec.n_vocab, top_k) +
         static_cast<uint64_t>(kMaxDepth) * kSmallStep * n * sizeof(float) +
         static_cast<uint64_t>(kSmallStep) * static_cast<uint64_t>(top_k) * per_choice +
         n * (1 + sizeof(ExpertWant));
}

void Prefetcher::observe(const LayerChoice& c) {
  const size_t k = static_cast<size_t>(c.k);
  const int n = static_cast<int>(c.ids.size() / std::max<size_t>(k, 1));
  if (n > kSmallStep) {
    before_layer_ = -1;
    return;
  }
  if (c.layer < TokenRoutes::kLayers)
    for (size_t r = 0; r < static_cast<size_t>(n); r++)
      tokens_.observe(c.layer, c.rows[r].token, c.ids.subspan(r * k, k),
                      c.weights.subspan(r * k, k));
  if (before_layer_ == c.layer - 1 && before_n_ == n)
    for (size_t r = 0; r < static_cast<size_t>(n); r++)
      pairs_.observe(c.layer, std::span(before_).subspan(r * k, k), c.ids.subspan(r * k, k));
  std::copy(c.ids.begin(), c.ids.end(), before_.begin());
  before_layer_ = c.layer;
  before_n_ = n;
}

void Prefetcher::prefetch(const LayerContext& ctx, std::span<const LayerWeights> layers,
                          const LayerChoice& c, ExpertCache& cache, PrecisionRule& rule,
                          bool routed_by_model) {
  const int n = ctx.rows.n();
  if (c.layer + 1 >= n_layers_ || n == 0) return;
  if (n > kSmallStep) {
    if (c.n_distinct >= kUnionForAll * n_experts_) prefetch_all(c.layer + 1, cache);
    return;
  }
  if (!routed_by_model || options_.predictor == Predictor::kPairs) {
    const int k = guess_pairs(c);
    if (k > 0) prefetch_guessed(c.layer + 1, n, k, cache, rule);
    return;
  }
  const int depth = gate_depth(ctx, layers, c.layer);
  const MoeSpec& moe = ctx.spec.moe;
  for (int d = 0; d < depth; d++) {
    const Mat logits{
        logits_.data() + static_cast<size_t>(d) * kSmallStep * static_cast<size_t>(n_experts_), n,
        n_experts_, n_experts_};
    ctx.backend.route(logits, moe.route, ids_.data(), weights_.data());
    if (!prefetch_guessed(c.layer + 1 + d, n, moe.top_k, cache, rule)) break;
  }
}

void Prefetcher::expect(std::span<const int32_t> tokens, ExpertCache& cache, PrecisionRule& rule) {
  const size_t k = before_.size() / kSmallStep;
  for (int layer = 0; layer < std::min(n_layers_, TokenRoutes::kLayers); layer++) {
    size_t n = 0;
    for (const int32_t token : tokens.first(std::min<size_t>(tokens.size(), kSmallStep)))
      n += tokens_.predict(layer, token, ids_.data() + n * k, weights_.data() + n * k);
    if (n > 0 && !prefetch_guessed(layer, static_cast<int>(n), static_cast<int>(k), cache, rule))
      return;
  }
}

void Prefetcher::prefetch_all(int layer, ExpertCache& cache) {
  wants_.clear();
  if (cache.geometry().layers[static_cast<size_t>(layer)].n_experts == 0) return;
  for (int32_t e = 0; e < n_experts_; e++) wants_.push_back({{layer, e}, Want::kHigh});
  cache.prefetch(wants_);
}

// Logits of the next layers' routers into logits_, in one product. Returns how many layers.
int Prefetcher::gate_depth(const LayerContext& ctx, std::span<const LayerWeights> layers,
                           int layer) {
  std::array<LinearOut, kMaxDepth> outs;
  const int n = ctx.rows.n();
  const int most = std::min({options_.depth, kMaxDepth, n_layers_ - 1 - layer});
  int depth = 0;
  for (; depth < most; depth++) {
    const LayerWeights& next = layers[static_cast<size_t>(layer + 1 + depth)];
    if (!next.router) break;
    outs[static_cast<size_t>(depth)] = {
        next.router, next.router_bias,
        Mat{logits_.data() +
                static_cast<size_t>(depth) * kSmallStep * static_cast<size_t>(n_experts_),
            n, n_experts_, n_experts_}};
  }
  if (depth > 0)
    ctx.backend.linear(ctx.act.norm(n), std::span(outs).first(static_cast<size_t>(depth)));
  return depth;
}

// Fills ids_ and weights_ [n, k] for the layer after `c`; returns k, 0 = nothing known yet.
int Prefetcher::guess_pairs(const LayerChoice& c) {
  const size_t k = static_cast<size_t>(c.k), n = c.ids.size() / k;
  for (size_t r = 0; r < n; r++)
    if (pairs_.predict(c.layer + 1, c.ids.subspan(r * k, k), c.k, ids_.data() + r * k,
                       weights_.data() + r * k) < c.k)
      return 0;
  return c.k;
}

bool Prefetcher::prefetch_guessed(int layer, int n, int k, ExpertCache& cache,
                                  PrecisionRule& rule) {
  const size_t n_choices = static_cast<size_t>(n) * static_cast<size_t>(k);
  std::fill(choice_wants_.begin(), choice_wants_.end(), Want::kHigh);
  if (!rule.exact()) rule.guess(weights_.data(), n, k, choice_wants_.data());
  std::fill(best_.begin(), best_.end(), uint8_t{0});
  for (size_t i = 0; i < n_choices; i++) {
    if (ids_[i] < 0 || ids_[i] >= n_experts_) continue;
    uint8_t& best = best_[static_cast<size_t>(ids_[i])];
    best = std::max(best, static_cast<uint8_t>(1 + static_cast<int>(choice_wants_[i])));
  }
  // By rank over the rows: the most certain first.
  wants_.clear();
  for (size_t rank = 0; rank < static_cast<size_t>(k); rank++)
    for (size_t r = 0; r < static_cast<size_t>(n); r++) {
      const int32_t e = ids_[r * static_cast<size_t>(k) + rank];
      if (e < 0 || e >= n_experts_ || best_[static_cast<size_t>(e)] == 0) continue;
      wants_.push_back({{layer, e}, static_cast<Want>(best_[static_cast<size_t>(e)] - 1)});
      best_[static_cast<size_t>(e)] = 0;
    }
  return cache.prefetch(wants_);
}

}  // namespace hob
