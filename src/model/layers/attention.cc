#include "model/layers/attention.h"

#include <array>
#include <cmath>

namespace hob {
namespace {

void normalise_q_k(const LayerContext& ctx, const LayerWeights& w, Mat q, Mat k) {
  const AttnSpec& a = ctx.spec.attn;
  const float eps = ctx.spec.norm_eps;
  if (a.qk_norm == QkNorm::kPerHead) {
    ctx.backend.rms_norm_heads(q, a.n_heads, w.q_norm, eps);
    ctx.backend.rms_norm_heads(k, a.n_kv_heads, w.k_norm, eps);
  } else if (a.qk_norm == QkNorm::kFullWidth) {
    ctx.backend.rms_norm(q, w.q_norm, eps, q);
    ctx.backend.rms_norm(k, w.k_norm, eps, k);
  }
}

// q, k, v of all rows; k and v into the cache.
void project(const LayerContext& ctx, const LayerWeights& w, const KvLayer& kv,
             const RopeTable& rope) {
  const ScopedTime time(ctx.times[Stage::kProjections]);
  const AttnSpec& a = ctx.spec.attn;
  const int n = ctx.rows.n();
  const Mat q = ctx.act.q(n), k = ctx.act.k(n), v = ctx.act.v(n);
  ctx.backend.rms_norm_input(ctx.act.x(n), w.attn_norm, ctx.spec.norm_eps, ctx.act.norm(n));
  const std::array<LinearOut, 3> outs{{{w.q, w.q_bias, q}, {w.k, w.k_bias, k}, {w.v, w.v_bias, v}}};
  ctx.backend.linear(ctx.act.norm(n), outs);
  normalise_q_k(ctx, w, q, k);
  ctx.backend.rope(q, a.n_heads, a.d_k, ctx.rows.positions(), rope);
  ctx.backend.rope(k, a.n_kv_heads, a.d_k, ctx.rows.positions(), rope);
  ctx.backend.kv_write(kv, ctx.rows.write_slots(), k, v);
}

void attend(const LayerContext& ctx, const KvLayer& kv) {
  const ScopedTime time(ctx.times[Stage::kAttention]);
  const AttnSpec& a = ctx.spec.attn;
  const int n = ctx.rows.n();
  const float scale = a.scale != 0.f ? a.scale : 1.f / std::sqrt(static_cast<float>(a.d_k));
  ctx.backend.attention(kv, ctx.act.q(n), a.n_heads, scale, ctx.rows.attention(), ctx.act.heads(n));
}

// x += heads * W_o.
void project_out(const LayerContext& ctx, const LayerWeights& w) {
  const ScopedTime time(ctx.times[Stage::kProjections]);
  const int n = ctx.rows.n();
  const std::array<LinearOut, 1> out{{{w.o, w.o_bias, ctx.act.block(n)}}};
  ctx.backend.linear(ctx.act.heads(n), out);
  ctx.backend.add(ctx.act.block(n), ctx.act.x(n));
}

}  // namespace

void attention_block(const LayerContext& ctx, const LayerWeights& w, const KvLayer& kv,
                     const RopeTable& rope, bool last_layer) {
  project(ctx, w, kv, rope);
  if (last_layer) ctx.rows.keep_wanted(ctx.act.x(ctx.rows.n()), ctx.act.q(ctx.rows.n()));
  if (ctx.rows.n() == 0) return;
  attend(ctx, kv);
  project_out(ctx, w);
}

}  // namespace hob
