#include "model/tensor_rules.h"

#include <fmt/format.h>

namespace hob {
namespace {

std::string full_name(int layer, std::string_view name) {
  return layer < 0 ? std::string(name) : fmt::format("blk.{}.{}", layer, name);
}

}  // namespace

void RuleList::matrix(Role role, int layer, std::string_view name, int n_out, int n_in) {
  rules_.push_back({role, TensorKind::kMatrix, layer, full_name(layer, name), {n_out, n_in}});
}

void RuleList::vector(Role role, int layer, std::string_view name, int n) {
  rules_.push_back({role, TensorKind::kVector, layer, full_name(layer, name), {n}});
}

void RuleList::expert_matrix(Role role, int layer, std::string_view name, int n_out, int n_in) {
  rules_.push_back({role,
                    TensorKind::kExperts,
                    layer,
                    full_name(layer, name),
                    {spec_.moe.n_experts, n_out, n_in}});
}

void RuleList::norm(Role role, Role bias_role, int layer, std::string_view name) {
  vector(role, layer, std::string(name) + ".weight", spec_.d_model);
  if (spec_.norm_biases) vector(bias_role, layer, std::string(name) + ".bias", spec_.d_model);
}

void RuleList::trunk() {
  matrix(Role::kTokenEmbd, -1, "token_embd.weight", spec_.n_vocab, spec_.d_model);
  norm(Role::kOutputNorm, Role::kOutputNormBias, -1, "output_norm");
  if (!spec_.tied_embeddings)
    matrix(Role::kOutput, -1, "output.weight", spec_.n_vocab, spec_.d_model);
  if (spec_.output_bias) vector(Role::kOutputBias, -1, "output.bias", spec_.n_vocab);
  if (spec_.rope.scaling != RopeScaling::kLongRope) return;
  vector(Role::kRopeFreqs, -1, "rope_factors_short.weight", spec_.rope.d_rot / 2);
  vector(Role::kRopeFreqsLong, -1, "rope_factors_long.weight", spec_.rope.d_rot / 2);
}

void RuleList::rope_freqs() {
  if (spec_.rope.scaling == RopeScaling::kLongRope) return;  // its factors are the divisors
  vector(Role::kRopeFreqs, -1, "rope_freqs.weight", spec_.rope.d_rot / 2);
  rules_.back().optional = true;
}

void RuleList::qkv(int layer) {
  const AttnSpec& a = spec_.attn;
  const int d_q = a.n_heads * a.d_k, d_k = a.n_kv_heads * a.d_k, d_v = a.n_kv_heads * a.d_v;
  if (a.fused_qkv) {
    matrix(Role::kQkv, layer, "attn_qkv.weight", d_q + d_k + d_v, spec_.d_model);
    if (a.bias_qkv) vector(Role::kQkvBias, layer, "attn_qkv.bias", d_q + d_k + d_v);
    return;
  }
  matrix(Role::kQ, layer, "attn_q.weight", d_q, spec_.d_model);
  matrix(Role::kK, layer, "attn_k.weight", d_k, spec_.d_model);
  matrix(Role::kV, layer, "attn_v.weight", d_v, spec_.d_model);
  if (!a.bias_qkv) return;
  vector(Role::kQBias, layer, "attn_q.bias", d_q);
  vector(Role::kKBias, layer, "attn_k.bias", d_k);
  vector(Role::kVBias, layer, "attn_v.bias", d_v);
}

// Files since 2025 hold the up-projection as two tensors in the shape that decoding uses, older
// ones as one.
void RuleList::latent_attention(int layer) {
  const AttnSpec& a = spec_.attn;
  const int d_rope = spec_.rope.d_rot, d_nope = a.d_k - d_rope;
  matrix(Role::kQ, layer, "attn_q.weight", a.n_heads * a.d_k, spec_.d_model);
  matrix(Role::kLatent, layer, "attn_kv_a_mqa.weight", a.d_latent + d_rope, spec_.d_model);
  vector(Role::kLatentNorm, layer, "attn_kv_a_norm.weight", a.d_latent);
  if (a.fused_latent_up) {
    rules_.push_back({Role::kLatentUp,
                      TensorKind::kVector,
                      layer,
                      full_name(layer, "attn_kv_b.weight"),
                      {a.n_heads * (d_nope + a.d_v), a.d_latent}});
    return;
  }
  const auto per_head = [&](Role role, std::string_view name, int n_out, int n_in) {
    rules_.push_back(
        {role, TensorKind::kMatrix, layer, full_name(layer, name), {a.n_heads, n_out, n_in}});
  };
  per_head(Role::kLatentK, "attn_k_b.weight", a.d_latent, d_nope);
  per_head(Role::kLatentV, "attn_v_b.weight", a.d_v, a.d_latent);
}

void RuleList::attention(int layer) {
  const AttnSpec& a = spec_.attn;
  norm(Role::kAttnNorm, Role::kAttnNormBias, layer, "attn_norm");
  a.d_latent > 0 ? latent_attention(layer) : qkv(layer);
  matrix(Role::kO, layer, "attn_output.weight", spec_.d_model, a.n_heads * a.d_v);
  if (a.bias_o) vector(Role::kOBias, layer, "attn_output.bias", spec_.d_model);
  if (a.sinks) vector(Role::kSinks, layer, "attn_sinks.weight", a.n_heads);
  if (spec_.post_norms)
    vector(Role::kPostAttnNorm, layer, "post_attention_norm.weight", spec_.d_model);
  if (a.qk_norm != QkNorm::kNone) {
    const bool per_head = a.qk_norm == QkNorm::kPerHead;
    vector(Role::kQNorm, layer, "attn_q_norm.weight", per_head ? a.d_k : a.n_heads * a.d_k);
    vector(Role::kKNorm, layer, "attn_k_norm.weight", per_head ? a.d_k : a.n_kv_heads * a.d_k);
  }
}

void RuleList::ffn_norms(int layer) {
  norm(Role::kFfnNorm, Role::kFfnNormBias, layer, spec_.ffn_norm);
  if (spec_.post_norms) vector(Role::kPostFfnNorm, layer, "post_ffw_norm.weight", spec_.d_model);
}

void RuleList::dense_ffn(int layer) {
  ffn_norms(layer);
  if (spec_.fused_gate_up) {
    matrix(Role::kGateUp, layer, "ffn_up.weight", 2 * spec_.d_ff, spec_.d_model);
  } else {
    matrix(Role::kGate, layer, "ffn_gate.weight", spec_.d_ff, spec_.d_model);
    matrix(Role::kUp, layer, "ffn_up.weight", spec_.d_ff, spec_.d_model);
  }
  matrix(Role::kDown, layer, "ffn_down.weight", spec_.d_model, spec_.d_ff);
}

void RuleList::experts(int layer) {
  const MoeSpec& m = spec_.moe;
  ffn_norms(layer);
  matrix(Role::kRouter, layer, "ffn_gate_inp.weight", m.n_experts, spec_.d_model);
  expert_matrix(Role::kExpertGate, layer, "ffn_gate_exps.weight", m.d_expert, spec_.d_model);
  expert_matrix(Role::kExpertUp, layer, "ffn_up_exps.weight", m.d_expert, spec_.d_model);
  expert_matrix(Role::kExpertDown, layer, "ffn_down_exps.weight", spec_.d_model, m.d_expert);
  if (m.biases) expert_biases(layer);
}

void RuleList::expert_biases(int layer) {
  const MoeSpec& m = spec_.moe;
  vector(Role::kRouterBias, layer, "ffn_gate_inp.bias", m.n_experts);
  const auto biases = [&](Role role, std::string_view name, int n) {
    rules_.push_back({role, TensorKind::kVector, layer, full_name(layer, name), {m.n_experts, n}});
  };
  biases(Role::kExpertGateBias, "ffn_gate_exps.bias", m.d_expert);
  biases(Role::kExpertUpBias, "ffn_up_exps.bias", m.d_expert);
  biases(Role::kExpertDownBias, "ffn_down_exps.bias", spec_.d_model);
}

void RuleList::shared_expert(int layer) {
  const MoeSpec& m = spec_.moe;
  // One output: GGUF stores it as a vector, the decoder uses it as a matrix of one row.
  if (m.shared_gated)
    matrix(Role::kSharedRouter, layer, "ffn_gate_inp_shexp.weight", 1, spec_.d_model);
  matrix(Role::kSharedGate, layer, "ffn_gate_shexp.weight", m.d_shared, spec_.d_model);
  matrix(Role::kSharedUp, layer, "ffn_up_shexp.weight", m.d_shared, spec_.d_model);
  matrix(Role::kSharedDown, layer, "ffn_down_shexp.weight", spec_.d_model, m.d_shared);
}

void RuleList::decoder() {
  trunk();
  for (int layer = 0; layer < spec_.n_layers; layer++) {
    attention(layer);
    if (spec_.is_moe_layer(layer)) {
      experts(layer);
      if (spec_.moe.d_shared > 0) shared_expert(layer);
    } else {
      dense_ffn(layer);
    }
  }
}

std::vector<TensorRule> decoder_rules(const ModelSpec& spec) {
  RuleList list(spec);
  list.decoder();
  return list.take();
}

}  // namespace hob
