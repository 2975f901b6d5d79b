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

void RuleList::trunk() {
  matrix(Role::kTokenEmbd, -1, "token_embd.weight", spec_.n_vocab, spec_.d_model);
  vector(Role::kOutputNorm, -1, "output_norm.weight", spec_.d_model);
  if (!spec_.tied_embeddings)
    matrix(Role::kOutput, -1, "output.weight", spec_.n_vocab, spec_.d_model);
}

void RuleList::rope_freqs() {
  vector(Role::kRopeFreqs, -1, "rope_freqs.weight", spec_.rope.d_rot / 2);
  rules_.back().optional = true;
}

void RuleList::attention(int layer) {
  const AttnSpec& a = spec_.attn;
  const int d_q = a.n_heads * a.d_k, d_k = a.n_kv_heads * a.d_k, d_v = a.n_kv_heads * a.d_v;
  vector(Role::kAttnNorm, layer, "attn_norm.weight", spec_.d_model);
  matrix(Role::kQ, layer, "attn_q.weight", d_q, spec_.d_model);
  matrix(Role::kK, layer, "attn_k.weight", d_k, spec_.d_model);
  matrix(Role::kV, layer, "attn_v.weight", d_v, spec_.d_model);
  matrix(Role::kO, layer, "attn_output.weight", spec_.d_model, a.n_heads * a.d_v);
  if (a.bias_qkv) {
    vector(Role::kQBias, layer, "attn_q.bias", d_q);
    vector(Role::kKBias, layer, "attn_k.bias", d_k);
    vector(Role::kVBias, layer, "attn_v.bias", d_v);
  }
  if (a.bias_o) vector(Role::kOBias, layer, "attn_output.bias", spec_.d_model);
  if (a.qk_norm != QkNorm::kNone) {
    const bool per_head = a.qk_norm == QkNorm::kPerHead;
    vector(Role::kQNorm, layer, "attn_q_norm.weight", per_head ? a.d_k : d_q);
    vector(Role::kKNorm, layer, "attn_k_norm.weight", per_head ? a.d_k : d_k);
  }
}

void RuleList::dense_ffn(int layer) {
  vector(Role::kFfnNorm, layer, "ffn_norm.weight", spec_.d_model);
  matrix(Role::kGate, layer, "ffn_gate.weight", spec_.d_ff, spec_.d_model);
  matrix(Role::kUp, layer, "ffn_up.weight", spec_.d_ff, spec_.d_model);
  matrix(Role::kDown, layer, "ffn_down.weight", spec_.d_model, spec_.d_ff);
}

void RuleList::experts(int layer) {
  const MoeSpec& m = spec_.moe;
  vector(Role::kFfnNorm, layer, "ffn_norm.weight", spec_.d_model);
  matrix(Role::kRouter, layer, "ffn_gate_inp.weight", m.n_experts, spec_.d_model);
  expert_matrix(Role::kExpertGate, layer, "ffn_gate_exps.weight", m.d_expert, spec_.d_model);
  expert_matrix(Role::kExpertUp, layer, "ffn_up_exps.weight", m.d_expert, spec_.d_model);
  expert_matrix(Role::kExpertDown, layer, "ffn_down_exps.weight", spec_.d_model, m.d_expert);
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
    if (spec_.is_moe())
      experts(layer);
    else
      dense_ffn(layer);
    if (spec_.moe.d_shared > 0) shared_expert(layer);
  }
}

std::vector<TensorRule> decoder_rules(const ModelSpec& spec) {
  RuleList list(spec);
  list.decoder();
  return list.take();
}

}  // namespace hob
