#include "model/layers/moe.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "model/layers/ffn.h"

namespace hob {

MoeBlock::MoeBlock(const ModelSpec& spec, int max_rows, int top_k,
                   const PrecisionOptions& precision)
    : n_experts_(spec.moe.n_experts),
      ids_(static_cast<size_t>(max_rows) * static_cast<size_t>(top_k)),
      weights_(ids_.size()),
      grouping_(n_experts_, max_rows * top_k),
      rule_(precision, max_rows * top_k),
      prefetcher_(spec, top_k),
      choice_wants_(ids_.size(), Want::kHigh),
      strict_ids_(precision.strict ? ids_.size() : 0),
      expert_wants_(static_cast<size_t>(n_experts_)) {
  wants_.reserve(static_cast<size_t>(n_experts_));
  groups_.reserve(static_cast<size_t>(n_experts_));
  leases_.reserve(static_cast<size_t>(n_experts_));
}

uint64_t MoeBlock::bytes(const ModelSpec& spec, int max_rows, int top_k) {
  const uint64_t n_choices = static_cast<uint64_t>(max_rows) * static_cast<uint64_t>(top_k);
  // Id, weight, group entry, want, score.
  const uint64_t per_choice = 3 * sizeof(int32_t) + 2 * sizeof(float) + sizeof(Want);
  const uint64_t per_expert = 2 * sizeof(int32_t) + sizeof(ExpertKey) + sizeof(ExpertGroup) +
                              sizeof(ExpertLease) + sizeof(Want) + sizeof(ExpertWant);
  return Prefetcher::bytes(spec, top_k) + n_choices * per_choice +
         static_cast<uint64_t>(spec.moe.n_experts) * per_expert;
}

void MoeBlock::forward(const LayerContext& ctx, std::span<const LayerWeights> layers, int layer,
                       ExpertCache& cache, RouteOverride* route) {
  const LayerWeights& w = layers[static_cast<size_t>(layer)];
  // All of it, except what the nested scopes take for themselves.
  const uint64_t begin_ns = now_ns(), before_ns = ctx.times.total();
  const int n = ctx.rows.n();
  ctx.backend.norm_input(ctx.act.x(n),
                         {w.ffn_norm, w.ffn_norm_bias, ctx.spec.norm_eps, ctx.spec.layer_norm},
                         ctx.act.norm(n));
  const int k = route_rows(ctx, w, layer, route);
  const size_t n_choices = static_cast<size_t>(n) * static_cast<size_t>(k);
  if (route_observer_)
    route_observer_->on_route(layer, ctx.rows.rows(), std::span(ids_).first(n_choices),
                              std::span(weights_).first(n_choices));
  grouping_.build(layer, std::span<const int32_t>(ids_).first(n_choices), k);
  fail_unrouted(ctx, layer, k);

  const bool strict = rule_.options().strict && !rule_.exact();
  std::optional<ExpertDemand> demand;
  if (!strict) demand.emplace(cache.demand(choose_precision(n, k)));
  if (!strict && !cache.resident()) {
    const LayerChoice choice{.layer = layer,
                             .rows = ctx.rows.rows(),
                             .ids = std::span(ids_).first(n_choices),
                             .weights = std::span(weights_).first(n_choices),
                             .k = k,
                             .n_distinct = static_cast<int>(grouping_.keys().size())};
    prefetcher_.observe(choice);
    if (prefetch_on_) prefetcher_.prefetch(ctx, layers, choice, cache, rule_, route == nullptr);
  }
  compute_shared(ctx, w, layer);  // while the first reads are in flight
  if (strict)
    compute_strict(ctx, w, layer, k, cache);
  else
    compute_chosen(ctx, w, std::move(*demand), k);
  if (ctx.spec.residual_scale != 1.f)
    for (size_t i = 0; i < n_choices; i++) weights_[i] *= ctx.spec.residual_scale;
  ctx.backend.combine(ctx.act.parts(n * k), weights_.data(), k, ctx.act.x(n));
  add_shared(ctx, w);
  ctx.times[Stage::kExperts] += now_ns() - begin_ns - (ctx.times.total() - before_ns);
}

// Fills ids_ and weights_ [n, k]; returns k.
int MoeBlock::route_rows(const LayerContext& ctx, const LayerWeights& w, int layer,
                         RouteOverride* route) {
  if (route) {
    route->route(layer, ctx.rows.rows(), ids_.data(), weights_.data());
    return route->top_k();
  }
  const int n = ctx.rows.n();
  const std::array<LinearOut, 1> logits{{{w.router, w.router_bias, ctx.act.router(n)}}};
  ctx.backend.linear(ctx.act.norm(n), logits);
  const MoeSpec& moe = ctx.spec.moe;
  ctx.backend.route(ctx.act.router(n), moe.route, ids_.data(), weights_.data());
  return moe.top_k;
}

void MoeBlock::compute_chosen(const LayerContext& ctx, const LayerWeights& w, ExpertDemand demand,
                              int k) {
  struct EndLeases {  // even when a step fails half-way
    ~EndLeases() { leases.clear(); }
    std::vector<ExpertLease>& leases;
  } const end_leases{leases_};
  while (true) {
    {
      const ScopedTime wait(ctx.times[Stage::kDiskWait]);
      leases_ = demand.next(std::move(leases_));
    }
    if (leases_.empty()) break;
    compute_arrived(ctx, w, k);
  }
}

// One demand per precision, each with only the choices that want it; the rest is skipped.
void MoeBlock::compute_strict(const LayerContext& ctx, const LayerWeights& w, int layer, int k,
                              ExpertCache& cache) {
  const size_t n_choices = static_cast<size_t>(ctx.rows.n()) * static_cast<size_t>(k);
  rule_.decide(weights_.data(), ctx.rows.n(), k, choice_wants_.data());
  for (const Want want : {Want::kSkip, Want::kLow, Want::kHigh}) {
    for (size_t c = 0; c < n_choices; c++) strict_ids_[c] = choice_wants_[c] == want ? ids_[c] : -1;
    grouping_.build(layer, std::span<const int32_t>(strict_ids_).first(n_choices), k);
    wants_.clear();
    for (const ExpertKey key : grouping_.keys()) wants_.push_back({key, want});
    compute_chosen(ctx, w, cache.demand(wants_), k);
  }
}

// What the step wants of each expert that some row chose: the most that any row wants.
std::span<const ExpertWant> MoeBlock::choose_precision(int n, int k) {
  wants_.clear();
  if (!rule_.exact()) {
    rule_.decide(weights_.data(), n, k, choice_wants_.data());
    std::fill(expert_wants_.begin(), expert_wants_.end(), Want::kSkip);
    for (size_t c = 0; c < static_cast<size_t>(n) * static_cast<size_t>(k); c++)
      if (ids_[c] >= 0 && ids_[c] < n_experts_) {
        Want& want = expert_wants_[static_cast<size_t>(ids_[c])];
        want = std::max(want, choice_wants_[c]);
      }
  }
  for (const ExpertKey key : grouping_.keys())
    wants_.push_back(
        {key, rule_.exact() ? Want::kHigh : expert_wants_[static_cast<size_t>(key.expert)]});
  return wants_;
}

void MoeBlock::count_uses(const ExpertLease& lease, int k) {
  for (const int32_t out_row : grouping_.out_rows(lease.key().expert)) {
    const float* row = weights_.data() + static_cast<ptrdiff_t>(out_row / k) * k;
    float total = 0;
    for (int i = 0; i < k; i++) total += row[i];
    const double mass = total > 0 ? row[out_row % k] / total : 0;
    counts_.n_uses++;
    counts_.mass += mass;
    if (lease.skipped()) {
      counts_.n_skipped++;
      counts_.mass_skipped += mass;
    } else if (lease.precision() == Precision::kLow) {
      counts_.n_low++;
      counts_.mass_low += mass;
    }
  }
}

ExpertGroup MoeBlock::group_of(const LayerContext& ctx, const LayerWeights& w,
                               const ExpertLease& lease) const {
  const int e = lease.key().expert;
  const auto bias = [&](const float* of_all, int width) {
    return of_all ? of_all + static_cast<ptrdiff_t>(e) * width : nullptr;
  };
  const auto weight = [&](ExpertPart part, const int32_t* orders) {
    Weight own = lease.weight(part);
    if (orders) own.order = orders + static_cast<ptrdiff_t>(e) * own.n_cols;
    return own;
  };
  const int d_expert = ctx.spec.moe.d_expert;
  return {.gate = weight(kGate, w.expert_gate_order),
          .up = weight(kUp, w.expert_up_order),
          .down = weight(kDown, w.expert_down_order),
          .gate_bias = bias(w.expert_gate_bias, d_expert),
          .up_bias = bias(w.expert_up_bias, d_expert),
          .down_bias = bias(w.expert_down_bias, ctx.spec.d_model),
          .rows = grouping_.rows(e),
          .out_rows = grouping_.out_rows(e)};
}

void MoeBlock::compute_arrived(const LayerContext& ctx, const LayerWeights& w, int k) {
  groups_.clear();
  for (const ExpertLease& lease : leases_) {
    const int e = lease.key().expert;
    if (!rule_.exact()) count_uses(lease, k);
    if (lease.error()) {
      for (int32_t out_row : grouping_.out_rows(e)) fail_choice(ctx, out_row, k, lease.error());
      continue;
    }
    if (lease.skipped()) {
      const Mat parts = ctx.act.parts(ctx.rows.n() * k);
      for (int32_t out_row : grouping_.out_rows(e))
        std::fill_n(parts.row(out_row), parts.cols, 0.f);
      continue;
    }
    groups_.push_back(group_of(ctx, w, lease));
  }
  const int n = ctx.rows.n();
  if (!groups_.empty())
    ctx.backend.expert_ffn(ctx.act.norm(n), groups_, ctx.spec.ffn_unit, ctx.act.parts(n * k));
  if (!expert_observer_) return;
  size_t group = 0;
  for (const ExpertLease& lease : leases_)
    if (!lease.error() && !lease.skipped())
      expert_observer_->saw(lease.key(), groups_[group++], ctx.act.norm(n));
}

// The row goes on with a zero in place of the missing part, so that the step stays one code path.
void MoeBlock::fail_choice(const LayerContext& ctx, int out_row, int k,
                           const std::exception_ptr& error) {
  const Mat parts = ctx.act.parts(ctx.rows.n() * k);
  std::fill_n(parts.row(out_row), parts.cols, 0.f);
  failures_.push_back({ctx.rows.batch_row(out_row / k), error});
}

// NaN in weights or activations leaves a router without a choice.
void MoeBlock::fail_unrouted(const LayerContext& ctx, int layer, int k) {
  for (int c = 0; c < ctx.rows.n() * k; c++) {
    const int32_t id = ids_[static_cast<size_t>(c)];
    if (id >= 0 && id < n_experts_) continue;
    weights_[static_cast<size_t>(c)] = 0.f;
    fail_choice(
        ctx, c, k,
        std::make_exception_ptr(
            Error(Code::kDataLoss,
                  fmt::format("[model] blk.{}: expected an expert id below {}, the routing gave {}",
                              layer, n_experts_, id))));
  }
}

void MoeBlock::compute_shared(const LayerContext& ctx, const LayerWeights& w, int layer) {
  if (!w.shared_gate) return;
  const ScopedTime time(ctx.times[Stage::kDenseFfn]);
  const int n = ctx.rows.n();
  if (w.shared_router) {
    const std::array<LinearOut, 1> gate{{{w.shared_router, nullptr, ctx.act.shared_gate(n)}}};
    ctx.backend.linear(ctx.act.norm(n), gate);
  }
  gated_ffn(ctx, layer, w.shared_gate, w.shared_up, w.shared_down);
}

void MoeBlock::add_shared(const LayerContext& ctx, const LayerWeights& w) {
  if (!w.shared_gate) return;
  const ScopedTime time(ctx.times[Stage::kDenseFfn]);
  const int n = ctx.rows.n();
  if (w.shared_router)
    ctx.backend.add_gated(ctx.act.block(n), ctx.act.shared_gate(n), ctx.act.x(n));
  else
    add_block(ctx, nullptr);
}

}  // namespace hob
