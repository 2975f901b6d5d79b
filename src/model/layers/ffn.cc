#include "model/layers/ffn.h"

#include <array>

namespace hob {

void gated_ffn(const LayerContext& ctx, const Weight& gate, const Weight& up, const Weight& down) {
  const int n = ctx.rows.n();
  const std::array<ExpertGroup, 1> all{{{gate, up, down, ctx.rows.all(), ctx.rows.all()}}};
  ctx.backend.expert_ffn(ctx.act.norm(n), all, Activation::kSilu, ctx.act.block(n));
}

void dense_ffn_block(const LayerContext& ctx, const LayerWeights& w) {
  const int n = ctx.rows.n();
  ctx.backend.rms_norm_input(ctx.act.x(n), w.ffn_norm, ctx.spec.norm_eps, ctx.act.norm(n));
  gated_ffn(ctx, w.gate, w.up, w.down);
  ctx.backend.add(ctx.act.block(n), ctx.act.x(n));
}

}  // namespace hob
