#pragma once
// The weights that stay in memory: everything but the routed experts.
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/aligned_buffer.h"
#include "model/decoder.h"
#include "model/spec.h"

namespace hob {

// Fields that a family does not have stay empty or null.
struct LayerWeights {
  const float* attn_norm = nullptr;
  Weight q, k, v, o;
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
  const float *q_norm = nullptr, *k_norm = nullptr;
  const float* ffn_norm = nullptr;
  Weight gate, up, down;
  Weight router;
  Weight shared_router, shared_gate, shared_up, shared_down;
};

struct DenseWeights {
  AlignedBuffer storage;
  Weight embedding, head;  // the same matrix when the model ties them
  const float* output_norm = nullptr;
  std::vector<float> rope_divisors;  // empty: none
  std::vector<LayerWeights> layers;
};

// Matrices are read and prepared in pieces of whole multiples of this many rows, so that no whole
// tensor has to be staged. The backend's layout must be row panels whose height divides it: then
// pieces side by side are the same bytes as the whole matrix.
inline constexpr int kPieceRows = 64;

DenseWeights load_dense_weights(const GgufFile& file, const ModelSpec& spec, const Backend& backend,
                                const Progress& progress);

}  // namespace hob
