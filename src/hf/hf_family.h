#pragma once
// One row per model family: how transformers' names and layouts become GGUF's. The names, shapes
// and keys are those of llama.cpp's converter, so that its files and ours are interchangeable. A
// new family is one file in families/ and one row in families/table.cc.
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata.h"
#include "hf/hf_config.h"

namespace hob {

// The widths that shapes are made of.
enum class HfDim : uint8_t {
  kNone,  // ends a shape
  kOne,
  kVocab,
  kModel,
  kHead,  // of one attention head
  kQ,     // all query heads together
  kKv,    // all key heads, and all value heads
  kQkv,   // q, k and v in one matrix
  kO,     // all heads' values: what the output projection reads
  kHeads,
  kFf,     // dense feed-forward
  kTwoFf,  // gate and up in one matrix
  kExperts,
  kExpertFf,
  kTwoExpertFf,
  kShared,  // shared expert
  kTwoShared,
  kQRank,  // multi-head latent attention: rank of q's factors
  kKvRank,
  kKvA,          // latent and rotary key together
  kKvB,          // all heads' keys (without their rotary part) and values
  kModelBlocks,  // MXFP4: blocks of 32 in a row
  kExpertFfBlocks,
  kBlockBytes,  // 16 bytes hold 32 weights
  kCount,
};

struct HfGeometry {
  int n_layers = 0;
  int n_leading_dense = 0;  // layers in front of the first one with experts
  int n_experts = 0;
  bool tied = false;            // the embedding is the head, whatever the file holds beside it
  bool needs_head = false;      // the config says that it is not
  int64_t d_nope = 0, d_v = 0;  // multi-head latent attention: widths of a head
  std::array<int64_t, static_cast<size_t>(HfDim::kCount)> dims{};

  int64_t operator[](HfDim d) const { return dims[static_cast<size_t>(d)]; }
};
// Throws Error for missing and absurd values, and for models whose layers differ in kind otherwise
// than by leading dense ones.
HfGeometry read_geometry(const HfFields& config);

// Which layers have a tensor. A family may list several sources of one GGUF tensor, old and new
// layouts: the first that is there counts.
enum class HfWhen : uint8_t {
  kAlways,
  kOptional,
  kDense,  // layers without experts
  kMoe,
  kHead,  // unless it is the embedding
};

// Which rows of the source make the tensor, and in what order. "Rows" of a bias are its numbers.
enum class HfRows : uint8_t {
  kAll,
  // Of a head: 0, d/2, 1, d/2+1 ...: transformers rotates pairs half a head apart, GGUF's llama
  // family adjacent ones.
  kRotary,
  kFirstHalf,
  kSecondHalf,
  kEven,
  kOdd,
  kMlaKeys,    // of each head of kv_b_proj: the keys, transposed
  kMlaValues,  // and the values
};

struct HfRule {
  std::string_view gguf, hf;   // {L}: the layer, {E}: an expert; experts are stacked
  std::array<HfDim, 4> shape;  // of one source tensor
  HfWhen when = HfWhen::kAlways;
  HfRows rows = HfRows::kAll;
  bool transposed = false;  // the source is [..., n_in, n_out]
  bool mxfp4 = false;       // the source is two tensors, {hf}_blocks and {hf}_scales
  float shift = 0;          // added to every number
};
using HfRules = std::vector<HfRule>;

// Sets keys below the `{arch}.` prefix.
class HfKeys {
 public:
  HfKeys(Metadata& metadata, std::string_view arch) : metadata_(metadata), arch_(arch) {}
  void count(std::string_view key, int64_t n);
  void real(std::string_view key, double x);
  void flag(std::string_view key, bool x);
  void text(std::string_view key, std::string x);
  bool has(std::string_view key) const;

 private:
  Metadata& metadata_;
  std::string arch_;
};

struct HfFamily {
  std::string_view arch;                        // GGUF's
  std::vector<std::string_view> architectures;  // config.json's
  std::string_view defaults;                    // JSON: HfConfig::set_defaults
  // What the family adds to common_keys(), and its refusals.
  void (*keys)(const HfFields& config, const HfGeometry& geometry, HfKeys& keys);
  HfRules (*rules)(const HfGeometry& geometry);
};

std::span<const HfFamily> hf_family_table();
// Throws Error(kUnimplemented) that names `architecture` and lists the known ones.
const HfFamily& find_hf_family(std::string_view architecture);

// Keys that all families have.
void common_keys(const HfFields& config, HfKeys& keys);

// Lists that families share; see families/common_rules.cc.
HfRules operator+(HfRules a, const HfRules& b);
HfRules trunk_rules(float norm_shift = 0);
HfRules attention_rules(HfRows q_and_k);
HfRules head_norm_rules(HfDim q, HfDim k, float norm_shift = 0);  // q_norm and k_norm
HfRules layer_norm_rules();  // before attention and feed-forward
HfRules dense_ffn_rules(HfWhen when);
HfRules mlp_expert_rules();           // mlp.experts.{E}.gate_proj ...
HfRules block_sparse_expert_rules();  // block_sparse_moe.experts.{E}.w1 ...

// The rows.
HfFamily hf_llama();
HfFamily hf_qwen2();
HfFamily hf_qwen3();
HfFamily hf_qwen2moe();
HfFamily hf_qwen3moe();
HfFamily hf_olmoe();
HfFamily hf_gemma3();
HfFamily hf_gpt_oss();
HfFamily hf_deepseek();
HfFamily hf_deepseek2();
HfFamily hf_granite();
HfFamily hf_granitemoe();
HfFamily hf_phi3();
HfFamily hf_phimoe();

}  // namespace hob
