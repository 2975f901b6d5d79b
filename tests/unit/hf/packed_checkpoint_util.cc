#include "unit/hf/packed_checkpoint_util.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace hob {
namespace {

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), 0);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace

PackedCheckpoint::PackedCheckpoint()
    : t(R"({"architectures":["MixtralForCausalLM"],"hidden_size":64,"num_hidden_layers":1,
        "vocab_size":320,"max_position_embeddings":256,"rms_norm_eps":1e-5,"rope_theta":10000,
        "num_attention_heads":4,"num_key_value_heads":4,"head_dim":16,"intermediate_size":64,
        "num_local_experts":4,"num_experts_per_tok":1,"quantization_config":{"quant_method":"gptq",
        "bits":4,"group_size":32,"desc_act":false,"sym":false,"checkpoint_format":"gptq"}})") {
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    add_floats(name, {kVocab, kWidth}, 0, 0.3f);
  for (const char* name : {"model.norm.weight", "model.layers.0.input_layernorm.weight",
                           "model.layers.0.post_attention_layernorm.weight"})
    add_floats(name, {kWidth}, 1, 0.1f);
  add_floats("model.layers.0.block_sparse_moe.gate.weight", {kExperts, kWidth}, 0, 0.3f);
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"})
    add_packed(fmt::format("model.layers.0.self_attn.{}", name));
  for (int e = 0; e < kExperts; e++)
    for (const char* name : {"w1", "w2", "w3"})
      add_packed(fmt::format("model.layers.0.block_sparse_moe.experts.{}.{}", e, name));
}

void PackedCheckpoint::add_floats(const std::string& name, const std::vector<int64_t>& shape,
                                  float mean, float deviation) {
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(static_cast<size_t>(shape[0] * (shape.size() > 1 ? shape[1] : 1)));
  for (float& v : values) v = normal(rng);
  t.add_bytes({name, "F32", shape, bytes_of(values)});
}

void PackedCheckpoint::add_packed(const std::string& base) {
  const auto random = [&](size_t n_bytes) {
    std::string bytes(n_bytes, 0);
    for (char& b : bytes) b = static_cast<char>(rng() & 0xff);
    return bytes;
  };
  std::string scales;  // 0.016 to 0.031
  for (int i = 0; i < kGroups * kWidth; i++) scales += {static_cast<char>(rng() & 0xff), 0x24};
  t.add_bytes({base + ".qweight", "I32", {kWidth / 8, kWidth}, random(kWidth * kWidth / 2)});
  t.add_bytes({base + ".qzeros", "I32", {kGroups, kWidth / 8}, random(kGroups * kWidth / 2)});
  t.add_bytes({base + ".scales", "F16", {kGroups, kWidth}, scales});
}

void PackedCheckpoint::add_groups(const std::string& base, std::vector<int32_t> groups) {
  t.add_bytes({base + ".g_idx", "I32", {kWidth}, bytes_of(groups)});
}

std::vector<int32_t> PackedCheckpoint::shuffled_groups() {
  std::vector<int32_t> groups;
  for (int k = 0; k < kWidth; k++) groups.push_back(static_cast<int32_t>(k / (kWidth / kGroups)));
  std::shuffle(groups.begin(), groups.end(), rng);
  return groups;
}

void PackedCheckpoint::shuffle_all() {
  const std::string attention = "model.layers.0.self_attn.",
                    experts = "model.layers.0.block_sparse_moe.experts.";
  const std::vector<int32_t> qkv = shuffled_groups();
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) add_groups(attention + name, qkv);
  add_groups(attention + "o_proj", shuffled_groups());
  for (int e = 0; e < kExperts; e++) {
    const std::vector<int32_t> gate_up = shuffled_groups();
    add_groups(fmt::format("{}{}.w1", experts, e), gate_up);
    add_groups(fmt::format("{}{}.w3", experts, e), gate_up);
    add_groups(fmt::format("{}{}.w2", experts, e), shuffled_groups());
  }
}

}  // namespace hob
