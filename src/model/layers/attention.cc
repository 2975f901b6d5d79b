#include "model/layers/attention.h"

#include <array>
#include <cmath>
#include <cstring>

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

void norm_input(const LayerContext& ctx, const LayerWeights& w) {
  const int n = ctx.rows.n();
  ctx.backend.norm_input(ctx.act.x(n),
                         {w.attn_norm, w.attn_norm_bias, ctx.spec.norm_eps, ctx.spec.layer_norm},
                         ctx.act.norm(n));
}

// q, k, v of all rows; k and v into the cache.
void project(const LayerContext& ctx, const LayerWeights& w, const KvLayer& kv,
             const RopeTable& rope, int layer) {
  const ScopedTime time(ctx.times[Stage::kProjections]);
  const AttnSpec& a = ctx.spec.attn;
  const int n = ctx.rows.n();
  const Mat q = ctx.act.q(n), k = ctx.act.k(n), v = ctx.act.v(n);
  norm_input(ctx, w);
  const std::array<LinearOut, 3> outs{{{w.q, w.q_bias, q}, {w.k, w.k_bias, k}, {w.v, w.v_bias, v}}};
  ctx.backend.linear(ctx.act.norm(n), outs);
  if (ctx.observer) ctx.observer->attention_in(layer, ctx.act.norm(n));
  normalise_q_k(ctx, w, q, k);
  ctx.backend.rope(q, a.n_heads, a.d_k, ctx.rows.positions(), rope);
  ctx.backend.rope(k, a.n_kv_heads, a.d_k, ctx.rows.positions(), rope);
  ctx.backend.kv_write(kv, ctx.rows.write_slots(), k, v);
}

Mat columns(Mat m, int first, int n) { return {m.data + first, m.rows, n, m.stride}; }

// Multi-head latent attention: the cache holds [compressed K and V | rotated key], one for all
// heads. Instead of unpacking a key per head and position, the query is brought into the compressed
// space. Ref: DeepSeek-V2, arXiv 2405.04434 §2.1.
void project_latent(const LayerContext& ctx, const LayerWeights& w, const KvLayer& kv,
                    const RopeTable& rope) {
  const ScopedTime time(ctx.times[Stage::kProjections]);
  const AttnSpec& a = ctx.spec.attn;
  const int n = ctx.rows.n(), d_rope = rope.d_rot, d_nope = a.d_k - d_rope;
  const Mat q = ctx.act.head_q(n), k = ctx.act.k(n);
  norm_input(ctx, w);
  const std::array<LinearOut, 2> outs{{{w.q, w.q_bias, q}, {w.latent, nullptr, k}}};
  ctx.backend.linear(ctx.act.norm(n), outs);
  const Mat latent = columns(k, 0, a.d_latent);
  ctx.backend.rms_norm(latent, w.latent_norm, ctx.spec.norm_eps, latent);
  ctx.backend.rope(columns(k, a.d_latent, d_rope), 1, d_rope, ctx.rows.positions(), rope);
  ctx.backend.rope(columns(q, d_nope, q.cols - d_nope), a.n_heads, a.d_k, ctx.rows.positions(),
                   rope);
  ctx.backend.kv_write(kv, ctx.rows.write_slots(), k, {nullptr, n, 0, 0});

  const Mat latent_q = ctx.act.q(n);
  const int d = a.d_latent + d_rope;
  ctx.backend.linear_heads(q, a.d_k, w.latent_k, a.n_heads, latent_q, d);
  for (int r = 0; r < n; r++)
    for (int h = 0; h < a.n_heads; h++)
      std::memcpy(latent_q.row(r) + h * d + a.d_latent, q.row(r) + h * a.d_k + d_nope,
                  static_cast<size_t>(d_rope) * sizeof(float));
}

void attend(const LayerContext& ctx, const LayerWeights& w, const KvLayer& kv, int layer) {
  const ScopedTime time(ctx.times[Stage::kAttention]);
  const AttnSpec& a = ctx.spec.attn;
  const int n = ctx.rows.n();
  const AttnParams params{
      .n_heads = a.n_heads,
      .scale = a.scale != 0.f ? a.scale : 1.f / std::sqrt(static_cast<float>(a.d_k)),
      .window = ctx.spec.is_local(layer) ? a.window : 0,
      .sinks = w.sinks,
      .d_latent_v = a.d_latent};
  const Mat out = a.d_latent > 0 ? ctx.act.latent_heads(n) : ctx.act.heads(n);
  ctx.backend.attention(kv, ctx.act.q(n), params, ctx.rows.attention(), out);
  if (a.d_latent > 0)
    ctx.backend.linear_heads(out, a.d_latent, w.latent_v, a.n_heads, ctx.act.heads(n), a.d_v);
}

// x += heads * W_o.
void project_out(const LayerContext& ctx, const LayerWeights& w, int layer) {
  const ScopedTime time(ctx.times[Stage::kProjections]);
  const int n = ctx.rows.n();
  const std::array<LinearOut, 1> out{{{w.o, w.o_bias, ctx.act.block(n)}}};
  ctx.backend.linear(ctx.act.heads(n), out);
  if (ctx.observer) ctx.observer->attention_out(layer, ctx.act.heads(n));
  add_block(ctx, w.post_attn_norm);
}

}  // namespace

void attention_block(const LayerContext& ctx, const LayerWeights& w, const KvLayer& kv,
                     const RopeTable& rope, int layer) {
  if (ctx.spec.attn.d_latent > 0)
    project_latent(ctx, w, kv, rope);
  else
    project(ctx, w, kv, rope, layer);
  if (layer == ctx.spec.n_layers - 1)
    ctx.rows.keep_wanted(ctx.act.x(ctx.rows.n()), ctx.act.q(ctx.rows.n()));
  if (ctx.rows.n() == 0) return;
  attend(ctx, w, kv, layer);
  project_out(ctx, w, layer);
}

}  // namespace hob
