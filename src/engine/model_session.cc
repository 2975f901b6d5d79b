#include "engine/model_session.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "experts/pack_plan.h"
#include "hf/open_model.h"

namespace hob {
namespace {

constexpr int kDefaultCtx = 4096;

int context_length(const SessionOptions& options, const ModelSpec& spec) {
  if (options.n_ctx > 0) return options.n_ctx;
  return spec.n_ctx_train > 0 ? std::min(spec.n_ctx_train, kDefaultCtx) : kDefaultCtx;
}

// The widest row that any operation of the step handles (Backend::scratch_bytes).
int widest_row(const ModelSpec& spec) {
  const int d_q = spec.attn.n_heads * std::max(spec.attn.d_k, spec.attn.d_v);
  return std::max({spec.d_model, spec.d_ff, d_q, spec.moe.d_expert, spec.moe.d_shared});
}

int logit_rows(const SessionOptions& options, int rows) {
  return std::clamp(options.max_logit_rows ? options.max_logit_rows : options.n_seqs, 1,
                    std::max(rows, 1));
}

int pool_tokens(const SessionOptions& options) {
  if (options.kv_tok) return options.kv_tok;
  const int per_seq = (options.n_ctx + kKvBlock - 1) / kKvBlock * kKvBlock;
  return per_seq * options.n_seqs;
}

// expert_ffn() of the layer whose FFN or experts need most (types may differ from layer to layer).
uint64_t ffn_scratch_bytes(const ModelLayout& layout, const Backend& backend, int rows) {
  const int d_dense = layout.spec.is_moe() ? layout.spec.moe.d_shared : layout.spec.d_ff;
  // f32: no quantised type needs more.
  uint64_t largest = d_dense ? backend.expert_scratch_bytes(rows, d_dense, DType::kF32) : 0;
  for (const ExpertLayer& layer : layout.experts.layers)
    if (layer.n_experts)
      largest = std::max<uint64_t>(
          largest, backend.expert_scratch_bytes(rows * layout.spec.moe.top_k,
                                                layer.parts[kDown].cols, layer.parts[kDown].dtype));
  return largest;
}

uint64_t step_scratch_bytes(const ModelLayout& layout, const Backend& backend,
                            const SessionOptions& options, int rows) {
  const ModelSpec& spec = layout.spec;
  const uint64_t logits = static_cast<uint64_t>(logit_rows(options, rows)) *
                          static_cast<uint64_t>(spec.n_vocab) * sizeof(float);
  return Decoder::scratch_bytes(spec, rows, options.n_ctx) +
         backend.scratch_bytes(rows, widest_row(spec)) + ffn_scratch_bytes(layout, backend, rows) +
         (layout.has_orders ? backend.order_scratch_bytes(rows, widest_row(spec)) : 0) + logits;
}

uint64_t vocab_entries(const Metadata& metadata) {
  uint64_t n = 0;
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"})
    if (const auto* list = metadata.find_strings(key)) n += list->size();
  return n;
}

// A limit above the cgroup's is no limit: the kernel would kill the process first.
uint64_t memory_budget(const SessionOptions& options, const MemoryInfo& memory) {
  const uint64_t wanted = options.memory_bytes.value_or(auto_memory_bytes(memory));
  return std::min(wanted, memory.cgroup_limit_bytes.value_or(UINT64_MAX));
}

// What "everything resident" means: a strict mixed mode reads both versions.
uint64_t all_experts_bytes(const ModelPlan& m) {
  uint64_t bytes = ExpertCache::total_bytes(m.layout.experts, *m.backend);
  const PrecisionOptions& p = m.options.precision;
  if (p.mode != PrecisionMode::kExact && p.strict)
    bytes += ExpertCache::total_bytes(m.layout.experts, *m.backend, Precision::kLow);
  return bytes;
}

// The low tier: what two layers of a step of all sequences may want low, at most a quarter of the
// memory that `available` bytes of slots are. In replays more memory for it saved fewer bytes.
uint64_t low_tier_bytes(const ModelPlan& m, uint64_t available) {
  if (m.options.precision.mode == PrecisionMode::kExact || m.layout.experts.low.empty()) return 0;
  if (m.options.precision.strict)  // its share of all versions
    return static_cast<uint64_t>(static_cast<double>(available) *
                                 static_cast<double>(ExpertCache::total_bytes(
                                     m.layout.experts, *m.backend, Precision::kLow)) /
                                 static_cast<double>(all_experts_bytes(m)));
  const uint64_t one = ExpertCache::smallest_budget(m.layout.experts, *m.backend, Precision::kLow);
  const uint64_t n = std::min<uint64_t>(
      2 * static_cast<uint64_t>(m.layout.spec.moe.top_k) * static_cast<uint64_t>(m.options.n_seqs),
      2 * static_cast<uint64_t>(m.layout.spec.moe.n_experts));
  return std::max(one, std::min(n * one, available / 4 / one * one));
}

void check_precision(const ModelPlan& m) {
  if (m.options.precision.mode == PrecisionMode::kExact) return;
  if (!m.layout.spec.is_moe())
    fail(Code::kInvalidArgument,
         "[precision] expected a model with experts for a mixed mode, {} has none",
         m.layout.spec.name);
  if (m.layout.experts.low.empty())
    fail(Code::kInvalidArgument,
         "[precision] expected a pack with low-precision copies for a mixed mode, there is none: "
         "'hob pack {}' makes it",
         m.options.path);
}

PlanInput plan_input(const ModelPlan& m) {
  const SessionOptions& options = m.options;
  const ModelSpec& spec = m.layout.spec;
  const KvGeometry kv = m.layout.kv(options.kv);
  PlanInput in;
  in.memory_bytes = memory_budget(options, m.memory);
  in.expert_cache_bytes = options.expert_cache_bytes;
  in.chunk = options.chunk;
  in.min_rows = options.n_seqs;
  in.dense_bytes = m.layout.dense_bytes;
  in.kv_bytes = KvStore::bytes(kv, pool_tokens(options));
  in.kv_bytes_per_ctx_tok =
      options.kv_tok ? 0 : kv.bytes_per_token() * static_cast<uint64_t>(options.n_seqs);
  in.n_ctx = options.n_ctx;
  in.base_process_bytes =
      base_process_bytes(vocab_entries(m.file.metadata()), m.backend->n_threads());
  in.scratch_bytes = [&m](int rows) {
    return step_scratch_bytes(m.layout, *m.backend, m.options, rows);
  };
  if (spec.is_moe()) {
    in.experts_bytes = all_experts_bytes(m);
    in.smallest_cache_bytes = ExpertCache::smallest_budget(m.layout.experts, *m.backend);
    if (m.options.precision.mode != PrecisionMode::kExact && !m.layout.experts.low.empty())
      in.smallest_cache_bytes +=
          ExpertCache::smallest_budget(m.layout.experts, *m.backend, Precision::kLow);
    in.staging_bytes = ExpertCache::staging_bytes(m.layout.experts, m.cache);
  }
  return in;
}

// Touches every page of the KV pool now, so that the memory that was planned is really there and a
// long conversation cannot be the one that finds out otherwise.
void touch_kv(const KvStore& kv, const KvGeometry& geometry, int n_tokens) {
  const size_t n_blocks = static_cast<size_t>((n_tokens + kKvBlock - 1) / kKvBlock);
  for (size_t i = 0; i < geometry.layers.size(); i++) {
    const KvLayer layer = kv.layer(static_cast<int>(i));
    const size_t n = n_blocks * static_cast<size_t>(layer.n_kv_heads);
    std::memset(layer.k, 0, n * kv_block_bytes(layer.type, layer.d_k));
    std::memset(layer.v, 0, n * kv_block_bytes(layer.type, layer.d_v));
  }
}

void check_kv(const KvGeometry& kv) {
  for (const KvLayerGeometry& l : kv.layers) {
    for (int d : {l.d_k, l.d_v}) {
      if (kv.type == KvType::kQ8 && d % kKvScaleWidth != 0)
        fail(Code::kUnimplemented,
             "[kv] q8: expected heads of a multiple of {} numbers, model has {}", kKvScaleWidth, d);
      if (d > kMaxKvWidth)
        fail(Code::kUnimplemented, "[kv] expected heads of at most {} numbers, model has {}",
             kMaxKvWidth, d);
    }
  }
}

[[noreturn]] void refuse_max_kl(const std::string& what) {
  fail(Code::kInvalidArgument,
       "[precision] --max-kl: expected a pack with a KL table ('hob pack MODEL --calibration "
       "TEXT'), {} has none",
       what);
}

// Takes precision and thresholds from the pack's KL table.
void choose_by_kl(ModelPlan& m, const PackIndex& pack) {
  const PackSection* section = pack.find_section(kKlSection);
  if (!section) refuse_max_kl(m.pack_path);
  PrecisionOptions& p = m.options.precision;
  const KlTable table = parse_kl_table(section->bytes, m.pack_path);
  const KlRow* row = table.fastest(
      *m.options.max_kl, p.mode == PrecisionMode::kExact ? std::nullopt : std::optional(p.mode));
  p.mode = row ? row->mode : PrecisionMode::kExact;
  if (!row) return;
  p.t1 = row->thresholds.t1;
  p.t2 = row->thresholds.t2;
  m.kl = *row;
}

// Reads experts from the pack that the user names, or from the one that stands beside the model.
void use_pack(ModelPlan& m) {
  if (m.options.pack == "none") {
    if (m.options.max_kl) refuse_max_kl("--pack none");
    return;
  }
  const bool named = !m.options.pack.empty();
  if (!m.layout.spec.is_moe()) {
    if (m.options.max_kl) refuse_max_kl("a dense model");
    if (named)
      fail(Code::kInvalidArgument, "[pack] {}: expected a model with experts, {} has none",
           m.options.pack, m.layout.spec.name);
    return;
  }
  const std::string path = named ? m.options.pack : default_pack_path(m.file);
  if (!named && !looks_like_pack(path)) {
    if (m.options.max_kl) refuse_max_kl(m.options.path);
    return;
  }
  const PackFile pack = PackFile::open(path);
  apply_pack(pack, m.file, *m.backend, m.layout.experts);
  m.pack_path = path;
  if (m.options.max_kl) choose_by_kl(m, pack.index());
}

}  // namespace

ModelPlan plan_model(const SessionOptions& options) {
  return plan_model(options, open_model_file(options.path));
}

ModelPlan plan_model(const SessionOptions& options, ModelFile file) {
  ModelPlan m{.file = std::move(file),
              .backend = make_cpu_backend(
                  {.n_threads = options.n_threads, .pin = options.pin, .force_isa = {}}),
              .layout = {},
              .options = options,
              .cache = {},
              .pack_path = {},
              .kl = {},
              .memory = read_memory_info(),
              .plan = {}};
  m.layout = bind_layout(m.file, *m.backend, options.compat);
  check_kv(m.layout.kv(options.kv));
  use_pack(m);
  m.options.n_ctx = context_length(options, m.layout.spec);
  check_precision(m);
  m.cache.policy = options.policy;
  m.plan = make_plan(plan_input(m));
  m.cache.budget_bytes = m.plan.expert_cache_bytes;
  m.cache.strict = m.options.precision.strict && m.options.precision.mode != PrecisionMode::kExact;
  m.cache.low_bytes =
      m.plan.resident && !m.cache.strict ? 0 : low_tier_bytes(m, m.cache.budget_bytes);
  return m;
}

std::unique_ptr<ModelSession> ModelSession::load(ModelPlan plan, const LoadProgress& progress) {
  std::unique_ptr<ModelSession> s(new ModelSession(std::move(plan)));
  const ModelPlan& m = s->plan_;
  const auto report = [&](std::string_view what) {
    return [&progress, what](uint64_t done, uint64_t total) {
      if (progress) progress(what, done, total);
    };
  };
  s->decoder_ =
      Decoder::load(m.file, m.layout, *m.backend, m.plan.chunk, m.options.n_ctx, report("weights"));
  const KvGeometry geometry = m.layout.kv(m.options.kv);
  s->kv_ = std::make_unique<KvStore>(geometry, pool_tokens(m.options));
  touch_kv(*s->kv_, geometry, pool_tokens(m.options));
  if (m.layout.spec.is_moe()) {
    s->experts_ = std::make_unique<ExpertCache>(m.layout.experts, *m.backend, m.cache);
    s->decoder_->set_experts(s->experts_.get());
    s->decoder_->set_precision(m.options.precision);
    s->decoder_->set_prefetch(m.options.prefetch_mode, m.options.prefetch);
    if (m.plan.resident) s->experts_->preload(report("experts"));
    s->experts_->reset_stats();
  }
  s->engine_ =
      std::make_unique<Engine>(*s->decoder_, *s->kv_, s->experts_.get(),
                               EngineLimits{.n_ctx = m.options.n_ctx,
                                            .max_rows = m.plan.chunk,
                                            .max_logit_rows = logit_rows(m.options, m.plan.chunk)});
  m.backend->pin_engine_thread();  // the loader's thread runs by now
  return s;
}

}  // namespace hob
