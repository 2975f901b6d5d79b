#pragma once
// A model family as data. docs/howto: a new family = one file in families/ + one row in
// families/table.cc.
#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace hob {

enum class QkNorm : uint8_t { kNone, kPerHead, kFullWidth };
enum class RopeScaling : uint8_t { kNone, kLinear, kYarn };

struct RopeSpec {
  RopeKind kind = RopeKind::kHalves;
  float theta = 10000.f;
  int d_rot = 0;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.f;
  int original_ctx = 0;     // YaRN
  float attn_factor = 1.f;  // YaRN
  float beta_fast = 32.f, beta_slow = 1.f;
};

struct AttnSpec {
  int n_heads = 0, n_kv_heads = 0, d_k = 0, d_v = 0;
  QkNorm qk_norm = QkNorm::kNone;
  bool bias_qkv = false;
  bool bias_o = false;
  float scale = 0.f;  // 0 = 1/sqrt(d_k)
};

struct MoeSpec {
  int n_experts = 0;  // 0 = dense model
  int top_k = 0;
  int d_expert = 0;
  bool renormalise = false;
  int d_shared = 0;  // 0 = no shared expert
  bool shared_gated = false;
};

struct ModelSpec {
  std::string arch;    // as the file says: "olmoe"
  std::string family;  // row of the family table
  std::string name;    // general.name
  int n_layers = 0, d_model = 0, d_ff = 0, n_vocab = 0, n_ctx_train = 0;
  float norm_eps = 1e-5f;
  AttnSpec attn;
  RopeSpec rope;
  MoeSpec moe;
  bool tied_embeddings = false;
  bool is_moe() const { return moe.n_experts > 0; }
};

}  // namespace hob
