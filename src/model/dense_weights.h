#pragma once
// The weights that stay in memory: everything but the routed experts.
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/aligned_buffer.h"
#include "model/decoder.h"
#include "model/rope_cache.h"
#include "model/spec.h"

namespace hob {

// Fields that a family does not have stay empty or null.
struct LayerWeights {
  const float *attn_norm = nullptr, *attn_norm_bias = nullptr;
  Weight q, k, v, o;
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
  const float *q_norm = nullptr, *k_norm = nullptr, *sinks = nullptr;
  Weight latent;  // MLA; q is there too
  const float* latent_norm = nullptr;
  HeadWeights latent_k, latent_v;
  const float* post_attn_norm = nullptr;
  const float *ffn_norm = nullptr, *ffn_norm_bias = nullptr;
  const float* post_ffn_norm = nullptr;
  Weight gate, up, down;
  Weight router;
  const float* router_bias = nullptr;
  // [n_experts, width of the output]
  const float *expert_gate_bias = nullptr, *expert_up_bias = nullptr, *expert_down_bias = nullptr;
  // [n_experts, inputs] (Weight::order), or null
  const int32_t *expert_gate_order = nullptr, *expert_up_order = nullptr,
                *expert_down_order = nullptr;
  Weight shared_router, shared_gate, shared_up, shared_down;
};

struct DenseWeights {
  AlignedBuffer storage;
  Weight embedding, head;  // the same matrix when the model ties them
  const float *output_norm = nullptr, *output_norm_bias = nullptr, *output_bias = nullptr;
  RopeDivisors rope_divisors;
  std::vector<LayerWeights> layers;
};

// Matrices are read and prepared in pieces of whole multiples of this many rows, so that no whole
// tensor has to be staged. The backend's layout must be row panels whose height divides it: then
// pieces side by side are the same bytes as the whole matrix.
inline constexpr int kPieceRows = 64;

DenseWeights load_dense_weights(const ModelFile& file, const ModelSpec& spec,
                                const Backend& backend, const Progress& progress);

}  // namespace hob
