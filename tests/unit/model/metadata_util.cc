#include "unit/model/metadata_util.h"

#include <cstdint>

#include "model/bind.h"
#include "model/families/family.h"

namespace hob {

Metadata valid_metadata(const std::string& arch) {
  Metadata m;
  const auto set = [&](const char* key, uint64_t value) { m.set(arch + "." + key, value); };
  m.set("general.architecture", arch);
  m.set("general.name", std::string("tiny"));
  set("block_count", 2);
  set("context_length", 512);
  set("embedding_length", 32);
  set("feed_forward_length", 48);
  set("attention.head_count", 4);
  set("attention.head_count_kv", arch == "olmoe" ? 4 : 2);
  set("vocab_size", 100);
  m.set(arch + ".attention.layer_norm_rms_epsilon", 1e-5);
  if (arch == "deepseek2") {
    set("attention.kv_lora_rank", 16);
    set("attention.key_length", 12);
    set("attention.value_length", 8);
    set("rope.dimension_count", 4);
  }
  if (arch.starts_with("deepseek")) {
    set("leading_dense_block_count", 1);
    set("expert_shared_count", 2);
    set("expert_feed_forward_length", 24);
  }
  if (arch.ends_with("moe") || arch.starts_with("deepseek") || arch == "gpt-oss") {
    set("expert_count", 6);
    set("expert_used_count", 2);
  }
  return m;
}

std::vector<RawTensor> valid_tensors(const Metadata& metadata) {
  // Whether the embeddings are tied is read off the tensors: start with an untied head.
  std::vector<RawTensor> tensors(1);
  tensors[0].name = "output.weight";
  const ModelSpec spec = read_spec(metadata, tensors);
  tensors.clear();
  uint64_t offset = 4096;
  for (const TensorRule& rule : find_family(spec.family).rules(spec)) {
    const uint64_t n_bytes = static_cast<uint64_t>(rule.shape.n_elements()) * sizeof(float);
    tensors.push_back({rule.name, DType::kF32, rule.shape, 0, offset, n_bytes});
    offset += n_bytes;
  }
  return tensors;
}

Metadata with(Metadata metadata, const std::string& key, MetaValue value) {
  metadata.set(key, std::move(value));
  return metadata;
}

Metadata without(const Metadata& metadata, const std::string& key) {
  Metadata out;
  for (const auto& [k, value] : metadata.entries())
    if (k != key) out.set(k, value);
  return out;
}

}  // namespace hob
