#include "quant/mixture.h"

#include <algorithm>
#include <charconv>

namespace hob {
namespace {

bool contains(const std::string& name, const char* part) {
  return name.find(part) != std::string::npos;
}

// A number, or the first of one per layer; `otherwise` when there is none.
int64_t number(const Metadata& metadata, const std::string& key, int64_t otherwise) {
  const MetaValue* value = metadata.find(key);
  if (value == nullptr) return otherwise;
  if (const auto* numbers = std::get_if<std::vector<int64_t>>(value))
    return numbers->empty() ? otherwise : numbers->front();
  return static_cast<int64_t>(std::min<uint64_t>(metadata.get_uint(key), 1u << 20));
}

}  // namespace

TensorRole tensor_role(const std::string& name) {
  if (name == "output.weight") return TensorRole::kOutput;
  if (name == "token_embd.weight" || name == "per_layer_token_embd.weight")
    return TensorRole::kTokenEmbedding;
  for (const char* part : {"attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"})
    if (contains(name, part)) return TensorRole::kAttentionV;
  if (contains(name, "attn_k.weight")) return TensorRole::kAttentionK;
  if (contains(name, "attn_output.weight")) return TensorRole::kAttentionOutput;
  if (contains(name, "ffn_down")) return TensorRole::kFfnDown;
  return TensorRole::kOther;
}

int layer_of(const std::string& name) {
  int layer = -1;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

Mixture::Mixture(const ModelFile& model, const FileType& type, bool has_importance)
    : type_(type), has_importance_(has_importance) {
  const Metadata& metadata = model.metadata();
  const std::string arch = metadata.find_string("general.architecture").value_or("");
  n_layers_ = number(metadata, arch + ".block_count", 0);
  n_experts_ = number(metadata, arch + ".expert_count", 0);
  const int64_t n_heads = number(metadata, arch + ".attention.head_count", 1);
  const int64_t n_kv = number(metadata, arch + ".attention.head_count_kv", n_heads);
  heads_per_kv_ = n_kv > 0 ? n_heads / n_kv : 1;
  is_70b_ = n_layers_ == 80 && (arch == "llama" || arch == "qwen2") && n_heads != n_kv;
  for (const RawTensor& tensor : model.tensors()) {
    const TensorRole role = tensor_role(tensor.name);
    if (role == TensorRole::kOutput) tied_ = false;
    if (role == TensorRole::kAttentionV) v_index_[layer_of(tensor.name)] = 0;
  }
  int index = 0;
  for (auto& [layer, of_layer] : v_index_) of_layer = index++;
}

DType Mixture::choose(const RawTensor& tensor) const {
  const TensorRole role = tensor_role(tensor.name);
  if (role == TensorRole::kOutput || (tied_ && role == TensorRole::kTokenEmbedding))
    return output(tensor);
  if (type_.experts_only) return tensor.shape.n_dims > 2 ? DType::kMXFP4 : DType::kQ8_0;
  const int layer = layer_of(tensor.name);
  switch (role) {
    case TensorRole::kAttentionV:
      return attention_v(v_index_.at(layer));
    case TensorRole::kAttentionK:
      return n_experts_ == 8 ? DType::kQ8_0 : type_.base;  // small beside eight experts
    case TensorRole::kAttentionOutput:
      return attention_output();
    case TensorRole::kFfnDown:
      return ffn_down(layer);
    default:
      return type_.base;
  }
}

DType Mixture::output(const RawTensor& tensor) const {
  if (type_.experts_only || tensor.shape.cols() % dtype_info(type_.base).block != 0)
    return DType::kQ8_0;
  return type_.base == DType::kQ8_0 ? DType::kQ8_0 : DType::kQ6_K;
}

DType Mixture::attention_v(int index) const {
  const bool shared = heads_per_kv_ >= 4;  // small, and many heads depend on it
  DType type = type_.base;
  if (is(DType::kQ2_K, 'M')) type = shared ? DType::kQ4_K : DType::kQ3_K;
  if (is(DType::kQ2_K, 'S') && shared) type = DType::kQ4_K;
  if (is(DType::kQ3_K, 'M')) type = index < 2 ? DType::kQ5_K : DType::kQ4_K;
  if (is(DType::kQ3_K, 'L')) type = DType::kQ5_K;
  if (is_iq4() && shared) type = DType::kQ5_K;
  const bool medium = is(DType::kQ4_K, 'M') || is(DType::kQ5_K, 'M');
  if (medium && more_bits(index, static_cast<int>(v_index_.size()))) type = DType::kQ6_K;
  if (is(DType::kQ4_K, 'S') && index < 4) type = DType::kQ5_K;
  if (is_70b_ && (type == DType::kQ3_K || type == DType::kQ4_K)) type = DType::kQ5_K;
  return n_experts_ == 8 ? DType::kQ8_0 : type;
}

DType Mixture::attention_output() const {
  if (n_experts_ == 8) {
    const bool named = is(DType::kQ2_K, 'M') || is(DType::kQ3_K, 'S') || is(DType::kQ3_K, 'M') ||
                       type_.base == DType::kQ4_K || is_iq4();
    return named ? DType::kQ5_K : type_.base;
  }
  if (is(DType::kQ2_K, 'M')) return DType::kQ3_K;
  if (is(DType::kQ3_K, 'M')) return DType::kQ4_K;
  if (is(DType::kQ3_K, 'L')) return DType::kQ5_K;
  return type_.base;
}

DType Mixture::ffn_down(int layer) const {
  const auto n = static_cast<int>(n_layers_);
  if (is(DType::kQ2_K, 'M')) return DType::kQ3_K;
  if (is(DType::kQ2_K, 'S')) return layer < n / 8 ? DType::kQ4_K : type_.base;
  if (is(DType::kQ3_K, 'M')) return layer < n / 16 ? DType::kQ5_K : DType::kQ4_K;
  if (is(DType::kQ3_K, 'L')) return DType::kQ5_K;
  if (is(DType::kQ4_K, 'S')) return layer < n / 8 ? DType::kQ5_K : type_.base;
  if (is(DType::kQ4_K, 'M') || is(DType::kQ5_K, 'M'))
    return more_bits(layer, n) ? DType::kQ6_K : type_.base;
  if (is_iq4() && !has_importance_) return layer < n / 8 ? DType::kQ5_K : type_.base;
  if (has_importance_ && layer < n / 8) {
    if (type_.base == DType::kQ4_0) return DType::kQ4_1;
    if (type_.base == DType::kQ5_0) return DType::kQ5_1;
  }
  return type_.base;
}

}  // namespace hob
