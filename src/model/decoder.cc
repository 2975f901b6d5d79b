#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "model/dense_weights.h"
#include "model/layers/attention.h"
#include "model/layers/ffn.h"
#include "model/layers/moe.h"
#include "model/rope_cache.h"

namespace hob {

namespace {

// Steps of at most so many rows are decode steps to the governor: their times compare.
constexpr int kGovernedRows = 16;

}  // namespace

struct Decoder::Impl {
  ModelSpec spec;
  Backend& backend;
  int max_rows, n_ctx;
  DenseWeights weights;
  RopeCache rope, rope_local;  // of local layers; empty when they rotate as all do
  StepRows rows;
  Activations act;
  std::optional<MoeBlock> moe;
  PrecisionOptions precision;
  PrefetchOptions prefetch;
  PrefetchGovernor governor{PrefetchMode::kOff};
  ExpertCache* experts = nullptr;
  RouteOverride* route = nullptr;
  ExpertObserver* expert_observer = nullptr;
  RouteObserver* route_observer = nullptr;
  LinearObserver* linear_observer = nullptr;
  bool step_begun = false;  // by a hint or by forward()
  std::vector<RowFailure> failed;
  StageTimes times;
  WorkCounts counts;

  Impl(const ModelSpec& s, Backend& b, int n_rows, int n_positions, DenseWeights w)
      : spec(s),
        backend(b),
        max_rows(n_rows),
        n_ctx(n_positions),
        weights(std::move(w)),
        rope(spec.rope, n_positions, weights.rope_divisors),
        rope_local(spec.rope_local.d_rot > 0 ? RopeCache(spec.rope_local, n_positions, {})
                                             : RopeCache()),
        rows(n_rows),
        act(spec, n_rows, spec.moe.top_k) {
    make_moe(spec.moe.top_k);
  }
  void make_moe(int top_k) {
    if (!spec.is_moe()) return;
    moe.emplace(spec, max_rows, top_k, precision);
    moe->prefetcher().set_options(prefetch);
    moe->set_route_observer(route_observer);
    moe->set_expert_observer(expert_observer);
  }

  void begin_step() {
    if (!std::exchange(step_begun, true)) experts->begin_step();
  }
  bool reads_ahead(int n_rows) const {
    // A prompt's chunk always does: its guess is right nearly everywhere.
    return governor.enabled() && (n_rows > kGovernedRows || governor.on());
  }
  void check(const StepBatch& batch, const Mat& logits) const;
  void count(bool logit_rows);
  void ffn(const LayerContext& ctx, int layer);
  void head(const LayerContext& ctx, Mat logits);
  void collect_failures(const StepBatch& batch);
};

Decoder::Decoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Decoder::~Decoder() = default;

std::unique_ptr<Decoder> Decoder::load(const ModelFile& file, const ModelLayout& layout,
                                       Backend& backend, int max_rows, int n_ctx,
                                       const Progress& progress) {
  HOB_CHECK(max_rows > 0 && n_ctx > 0);
  DenseWeights weights = load_dense_weights(file, layout.spec, backend, progress);
  return std::unique_ptr<Decoder>(new Decoder(
      std::make_unique<Impl>(layout.spec, backend, max_rows, n_ctx, std::move(weights))));
}

void Decoder::forward(const StepBatch& batch, const KvStore& kv, Mat logits) {
  Impl& m = *impl_;
  m.check(batch, logits);
  const uint64_t before_ns = m.times.total(), begin_ns = now_ns();
  m.rows.assign(batch);
  m.count(false);
  if (m.moe) {
    m.moe->failures().clear();
    m.moe->set_prefetch(m.reads_ahead(m.rows.n()));
    if (m.rows.n() <= kGovernedRows) expect(m.rows.tokens());
    m.begin_step();
    m.step_begun = false;  // also when this one fails half-way
  }
  const int n_governed = m.rows.n() <= kGovernedRows ? m.rows.n() : 0;

  const LayerContext ctx{m.spec, m.backend, m.rows, m.act, m.times, m.linear_observer};
  m.backend.embed(m.weights.embedding, m.rows.tokens(), m.act.x(m.rows.n()));
  if (m.spec.embedding_scale != 1.f) m.backend.scale(m.spec.embedding_scale, m.act.x(m.rows.n()));
  const bool two_ropes = m.spec.rope_local.d_rot > 0;
  for (int layer = 0; layer < m.spec.n_layers; layer++) {
    const bool local = two_ropes && m.spec.is_local(layer);
    attention_block(ctx, m.weights.layers[static_cast<size_t>(layer)], kv.layer(layer),
                    local ? m.rope_local.table() : m.rope.table(), layer);
    if (m.rows.n() > 0) m.ffn(ctx, layer);
  }
  if (m.rows.n() > 0) {
    m.count(true);
    m.head(ctx, logits);
  }

  m.collect_failures(batch);
  if (m.moe && n_governed > 0 && !m.experts->resident())
    m.governor.record(static_cast<double>(now_ns() - begin_ns) / n_governed);
  m.times[Stage::kOther] += now_ns() - begin_ns - (m.times.total() - before_ns);
}

void Decoder::expect(std::span<const int32_t> tokens) {
  Impl& m = *impl_;
  if (!m.moe || !m.experts || m.route || m.experts->resident() || tokens.empty()) return;
  if (!m.reads_ahead(1)) return;
  m.begin_step();
  m.moe->expect(tokens, *m.experts);
}

// Adds the rows that are left: all of a step at its start, those with logits at its end.
void Decoder::Impl::count(bool logit_rows) {
  const std::span<const StepRow> step = rows.rows();
  const std::span<const AttnRow> seen = rows.attention();
  uint64_t n_visible = 0, n_context = 0;
  for (size_t i = 0; i < step.size(); i++) {
    const auto n = static_cast<uint64_t>(seen[i].n_visible - seen[i].first);
    n_visible += n;
    // Rows of a sequence follow one another, and the last one sees most.
    if (i + 1 == step.size() || step[i + 1].seq != step[i].seq) n_context += n;
  }
  WorkCounts& c = counts;
  (logit_rows ? c.n_logit_steps : c.n_steps)++;
  (logit_rows ? c.n_logit_rows : c.n_rows) += step.size();
  (logit_rows ? c.n_logit_visible : c.n_visible) += n_visible;
  (logit_rows ? c.n_logit_context : c.n_context) += n_context;
}

void Decoder::Impl::check(const StepBatch& batch, const Mat& logits) const {
  HOB_CHECK(!batch.rows.empty() && batch.rows.size() <= static_cast<size_t>(max_rows));
  const int n_logits = batch.n_logits();
  HOB_CHECK(n_logits == 0 || (logits.rows >= n_logits && logits.cols == spec.n_vocab));
  HOB_CHECK(!spec.is_moe() || experts);
  for (const StepRow& r : batch.rows) {
    HOB_CHECK(r.token >= 0 && r.token < spec.n_vocab);
    HOB_CHECK(r.position >= 0 && r.position < n_ctx);
  }
}

void Decoder::Impl::ffn(const LayerContext& ctx, int layer) {
  if (spec.is_moe_layer(layer)) {
    moe->forward(ctx, weights.layers, layer, *experts, route);
    const int k = route ? route->top_k() : spec.moe.top_k;
    counts.n_choices += static_cast<uint64_t>(rows.n()) * static_cast<uint64_t>(k);
  } else {
    const ScopedTime time(times[Stage::kDenseFfn]);
    dense_ffn_block(ctx, weights.layers[static_cast<size_t>(layer)], layer);
  }
}

void Decoder::Impl::head(const LayerContext& ctx, Mat logits) {
  const ScopedTime time(times[Stage::kHead]);
  const int n = ctx.rows.n();
  backend.norm_input(
      act.x(n), {weights.output_norm, weights.output_norm_bias, spec.norm_eps, spec.layer_norm},
      act.norm(n));
  logits.rows = n;
  const std::array<LinearOut, 1> out{{{weights.head, weights.output_bias, logits}}};
  backend.linear(act.norm(n), out);
  if (spec.logit_scale != 1.f) backend.scale(spec.logit_scale, logits);
}

// One entry per row, in row order. A failed row's K and V are wrong too, so later rows of its
// sequence fail with it.
void Decoder::Impl::collect_failures(const StepBatch& batch) {
  failed.clear();
  if (!moe || moe->failures().empty()) return;
  const std::vector<RowFailure>& direct =
      moe->failures();  // the first entry of a row is its first layer's
  for (int row = 0; row < static_cast<int>(batch.rows.size()); row++) {
    const StepRow& r = batch.rows[static_cast<size_t>(row)];
    const auto hit = std::find_if(direct.begin(), direct.end(), [&](const RowFailure& f) {
      const StepRow& from = batch.rows[static_cast<size_t>(f.row)];
      return f.row == row || (from.seq == r.seq && from.position < r.position);
    });
    if (hit != direct.end()) failed.push_back({row, hit->error});
  }
}

const ModelSpec& Decoder::spec() const { return impl_->spec; }

void Decoder::set_experts(ExpertCache* cache) { impl_->experts = cache; }

void Decoder::set_route_override(RouteOverride* route) {
  Impl& m = *impl_;
  m.route = route;
  const int top_k = std::max(m.spec.moe.top_k, route ? route->top_k() : 0);
  m.act = Activations(m.spec, m.max_rows, top_k);
  m.make_moe(top_k);
}

void Decoder::set_route_observer(RouteObserver* observer) {
  impl_->route_observer = observer;
  if (impl_->moe) impl_->moe->set_route_observer(observer);
}

void Decoder::set_precision(const PrecisionOptions& options) {
  impl_->precision = options;
  set_route_override(impl_->route);
}

void Decoder::set_prefetch(PrefetchMode mode, const PrefetchOptions& options) {
  impl_->governor = PrefetchGovernor(mode);
  impl_->prefetch = options;
  if (impl_->moe) impl_->moe->prefetcher().set_options(options);
}

PrecisionCounts Decoder::precision_counts() const {
  return impl_->moe ? impl_->moe->counts() : PrecisionCounts{};
}
std::pair<float, float> Decoder::thresholds() const {
  if (!impl_->moe) return {1.f, 1.f};
  return {impl_->moe->rule().t1(), impl_->moe->rule().t2()};
}
float Decoder::score_quantile(float q) const {
  return impl_->moe ? impl_->moe->rule().score_quantile(q) : 1.f;
}
const PrefetchGovernor& Decoder::prefetch_governor() const { return impl_->governor; }
void Decoder::set_expert_observer(ExpertObserver* observer) {
  impl_->expert_observer = observer;
  if (impl_->moe) impl_->moe->set_expert_observer(observer);
}

void Decoder::set_linear_observer(LinearObserver* observer) {
  impl_->linear_observer = observer;
}

const std::vector<Decoder::RowFailure>& Decoder::failed_rows() const { return impl_->failed; }
const StageTimes& Decoder::times() const { return impl_->times; }
const WorkCounts& Decoder::counts() const { return impl_->counts; }
void Decoder::reset_times() {
  impl_->times = {};
  impl_->counts = {};
  if (impl_->moe) impl_->moe->counts() = {};
}

uint64_t Decoder::scratch_bytes(const ModelSpec& spec, int max_rows, int n_ctx) {
  uint64_t n = Activations::bytes(spec, max_rows, spec.moe.top_k) +
               RopeCache::bytes(spec.rope, n_ctx) + RopeCache::bytes(spec.rope_local, n_ctx) +
               static_cast<uint64_t>(max_rows) * StepRows::bytes_per_row();
  if (spec.is_moe()) n += MoeBlock::bytes(spec, max_rows, spec.moe.top_k);
  return n;
}

}  // namespace hob
