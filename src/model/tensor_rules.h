#pragma once
// Which tensors a model needs: name, shape and what becomes of each.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/spec.h"
#include "tensor/shape.h"

namespace hob {

enum class Role : uint8_t {
  kTokenEmbd,
  kOutputNorm,
  kOutputNormBias,
  kOutput,
  kOutputBias,
  kRopeFreqs,
  kRopeFreqsLong,
  kAttnNorm,
  kAttnNormBias,
  kQkv,
  kQkvBias,
  kQ,
  kK,
  kV,
  kO,
  kQBias,
  kKBias,
  kVBias,
  kOBias,
  kQNorm,
  kKNorm,
  kSinks,
  kLatent,  // MLA: input -> [compressed K and V | rotated key]
  kLatentNorm,
  kLatentUp,  // MLA, of old files: per head [key without rotation; value] from the compressed one
  kLatentK,   // MLA: per head, the compressed query from the query without rotation
  kLatentV,   // MLA: per head, the value from the compressed one
  kPostAttnNorm,
  kFfnNorm,
  kFfnNormBias,
  kPostFfnNorm,
  kGateUp,
  kGate,
  kUp,
  kDown,
  kRouter,
  kRouterBias,
  kExpertGateBias,
  kExpertUpBias,
  kExpertDownBias,
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kSharedRouter,
  kSharedGate,
  kSharedUp,
  kSharedDown,
};

enum class TensorKind : uint8_t {
  kMatrix,   // kernel layout, resident
  kVector,   // converted to f32, resident
  kExperts,  // stays in the file, streamed per expert
  kOrder,    // of a matrix or of experts: Weight::order; resident
};

struct TensorRule {
  Role role;
  TensorKind kind;
  int layer = -1;  // -1: not of a layer
  std::string name;
  Shape shape;
  bool optional = false;
};

// Collects the rules of a family from groups that families have in common.
class RuleList {
 public:
  explicit RuleList(const ModelSpec& spec) : spec_(spec) {}

  void decoder();     // everything that the spec alone decides: trunk and all layers
  void rope_freqs();  // Llama 3's frequency divisors, optional

  // The parts of decoder(), for a family whose layers differ.
  void trunk();               // embeddings, output norm, head, LongRoPE's factors
  void attention(int layer);  // norm, q k v o, biases and q/k norms as the spec says
  void dense_ffn(int layer);
  void experts(int layer);  // norm, router, routed experts
  void shared_expert(int layer);

  std::vector<TensorRule> take() { return std::move(rules_); }

 private:
  void matrix(Role role, int layer, std::string_view name, int n_out, int n_in);
  void vector(Role role, int layer, std::string_view name, int n);
  void norm(Role role, Role bias_role, int layer, std::string_view name);
  void qkv(int layer);
  void ffn_norms(int layer);
  void latent_attention(int layer);
  void expert_biases(int layer);
  void expert_matrix(Role role, int layer, std::string_view name, int n_out, int n_in);

  const ModelSpec& spec_;
  std::vector<TensorRule> rules_;
};

// The rules of a family without tensors of its own.
std::vector<TensorRule> decoder_rules(const ModelSpec& spec);

}  // namespace hob
