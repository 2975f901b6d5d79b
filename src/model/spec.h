#pragma once
// A model family as data. docs/howto: a new family = one file in families/ + one row in
// families/table.cc.
#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace hob {

enum class QkNorm : uint8_t { kNone, kPerHead, kFullWidth };
enum class RopeScaling : uint8_t { kNone, kLinear, kYarn, kLongRope };

struct RopeSpec {
  RopeKind kind = RopeKind::kHalves;
  float theta = 10000.f;
  int d_rot = 0;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.f;
  int original_ctx = 0;   // YaRN, LongRoPE
  float magnitude = 1.f;  // on cos and sin
  float beta_fast = 32.f, beta_slow = 1.f;
  bool yarn_whole_pairs = true;  // YaRN's ramp begins and ends at whole pairs
  float long_magnitude = 1.f;    // LongRoPE with its long factors
};

struct AttnSpec {
  int n_heads = 0, n_kv_heads = 0, d_k = 0, d_v = 0;
  QkNorm qk_norm = QkNorm::kNone;
  bool bias_qkv = false;
  bool bias_o = false;
  bool fused_qkv = false;  // one tensor: q, then k, then v
  bool sinks = false;      // a score per head that takes weight and brings no value
  float scale = 0.f;       // 0 = 1/sqrt(d_k)
  int window = 0;          // > 0: local layers see so many positions, their own included
  int global_every = 0;    // with a window: layer l is global when (l + 1) % global_every == 0;
                           // 0: none is
  // Multi-head latent attention (DeepSeek-V2): > 0: the width of the compressed K and V. A head's
  // query and key are [d_k - rope.d_rot | rope.d_rot], the latter the same key for all heads.
  int d_latent = 0;
  bool fused_latent_up = false;  // the file has one tensor for both up-projections
};

struct MoeSpec {
  int n_experts = 0;  // 0 = dense model
  int top_k = 0;
  int d_expert = 0;
  RouteRule route;      // k = top_k
  bool biases = false;  // of the router and all experts
  int d_shared = 0;     // 0 = no shared expert
  bool shared_gated = false;
  int n_dense_layers = 0;  // the first so many layers have a dense FFN
};

struct ModelSpec {
  std::string arch;    // as the file says: "olmoe"
  std::string family;  // row of the family table
  std::string name;    // general.name
  int n_layers = 0, d_model = 0, d_ff = 0, n_vocab = 0, n_ctx_train = 0;
  float norm_eps = 1e-5f;
  bool layer_norm = false;            // LayerNorm instead of RMSNorm; with norm_biases
  bool norm_biases = false;           // of the norms of the residual stream
  bool post_norms = false;            // what attention and FFN add is normalised first: Gemma
  std::string ffn_norm = "ffn_norm";  // as the files of the family call it
  GatedUnit ffn_unit = GatedUnit::kSilu;
  bool fused_gate_up = false;  // dense FFN: one tensor, the gate's rows first
  bool output_bias = false;
  float embedding_scale = 1.f, residual_scale = 1.f, logit_scale = 1.f;
  AttnSpec attn;
  RopeSpec rope;
  RopeSpec rope_local;  // of local layers
  MoeSpec moe;
  bool tied_embeddings = false;
  bool is_moe() const { return moe.n_experts > 0; }
  bool is_moe_layer(int layer) const { return is_moe() && layer >= moe.n_dense_layers; }
  bool is_local(int layer) const {
    return attn.window > 0 && (attn.global_every == 0 || (layer + 1) % attn.global_every != 0);
  }
};

}  // namespace hob
