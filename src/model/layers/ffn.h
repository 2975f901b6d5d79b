#pragma once
#include "model/dense_weights.h"
#include "model/layers/layer_context.h"

namespace hob {

// block = down(silu(gate(norm)) * up(norm)), for the dense FFN and the shared expert.
void gated_ffn(const LayerContext& ctx, int layer, const Weight& gate, const Weight& up,
               const Weight& down);

// x += FFN(norm(x)).
void dense_ffn_block(const LayerContext& ctx, const LayerWeights& w, int layer);

}  // namespace hob
