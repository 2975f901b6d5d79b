#pragma once
#include "model/dense_weights.h"
#include "model/layers/layer_context.h"

namespace hob {

// x += W_o attention(norm(x)). Writes K and V of all rows. In the last layer nothing but the logits
// depends on what follows the write, so there the rows without logits are dropped (also from
// `ctx.rows`).
void attention_block(const LayerContext& ctx, const LayerWeights& w, const KvLayer& kv,
                     const RopeTable& rope, int layer);

}  // namespace hob
