#include "model/layers/ffn.h"

#include <array>

namespace hob {

void gated_ffn(const LayerContext& ctx, int layer, const Weight& gate, const Weight& up,
               const Weight& down) {
  const int n = ctx.rows.n();
  const std::array<ExpertGroup, 1> all{
      {{.gate = gate, .up = up, .down = down, .rows = ctx.rows.all(), .out_rows = ctx.rows.all()}}};
  ctx.backend.expert_ffn(ctx.act.norm(n), all, ctx.spec.ffn_unit, ctx.act.block(n));
  if (ctx.observer) ctx.observer->ffn(layer, all[0], ctx.act.norm(n));
}

void dense_ffn_block(const LayerContext& ctx, const LayerWeights& w, int layer) {
  const int n = ctx.rows.n();
  ctx.backend.norm_input(ctx.act.x(n),
                         {w.ffn_norm, w.ffn_norm_bias, ctx.spec.norm_eps, ctx.spec.layer_norm},
                         ctx.act.norm(n));
  gated_ffn(ctx, layer, w.gate, w.up, w.down);
  add_block(ctx, w.post_ffn_norm);
}

}  // namespace hob
