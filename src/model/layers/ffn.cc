#include "model/layers/ffn.h"

#include <array>

namespace hob {

void gated_ffn(const LayerContext& ctx, const Weight& gate, const Weight& up, const Weight& down) {
  const int n = ctx.rows.n();
  const std::array<LinearOut, 2> both{
      {{gate, nullptr, ctx.act.gate(n)}, {up, nullptr, ctx.act.up(n)}}};
  ctx.backend.linear(ctx.act.norm(n), both);
  ctx.backend.swiglu(ctx.act.gate(n), ctx.act.up(n), ctx.act.gate(n));
  const std::array<LinearOut, 1> out{{{down, nullptr, ctx.act.block(n)}}};
  ctx.backend.linear(ctx.act.gate(n), out);
}

void dense_ffn_block(const LayerContext& ctx, const LayerWeights& w) {
  const int n = ctx.rows.n();
  ctx.backend.rms_norm(ctx.act.x(n), w.ffn_norm, ctx.spec.norm_eps, ctx.act.norm(n));
  gated_ffn(ctx, w.gate, w.up, w.down);
  ctx.backend.add(ctx.act.block(n), ctx.act.x(n));
}

}  // namespace hob
