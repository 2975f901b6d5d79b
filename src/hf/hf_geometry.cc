// The widths of a model from its config: the keys have the same few spellings in all families.
#include "base/error.h"
#include "hf/hf_family.h"

namespace hob {
namespace {

using enum HfDim;

class GeometryReader {
 public:
  explicit GeometryReader(const HfFields& config) : c_(config) {}

  HfGeometry read() {
    g_.n_layers = static_cast<int>(c_.get_int("num_hidden_layers", kHfLayers));
    dim(kOne) = 1;
    dim(kBlockBytes) = 16;
    dim(kModel) = c_.get_int("hidden_size", kHfWidth);
    dim(kVocab) = c_.get_int("vocab_size", kHfVocab);
    dim(kFf) = c_.find_int("intermediate_size", kHfWidth).value_or(0);
    dim(kTwoFf) = 2 * g_[kFf];
    attention();
    experts();
    tied();
    return g_;
  }

 private:
  int64_t& dim(HfDim d) { return g_.dims[static_cast<size_t>(d)]; }

  void attention() {
    dim(kHeads) = c_.get_int("num_attention_heads", kHfHeads);
    const int64_t n_kv = c_.find_int("num_key_value_heads", kHfHeads).value_or(g_[kHeads]);
    if (g_[kHeads] % n_kv != 0)
      c_.refuse("num_key_value_heads", fmt::format("a divisor of the {} heads", g_[kHeads]));
    if (c_.has("kv_lora_rank")) return latent_attention();
    const auto d_head = c_.find_int("head_dim", kHfWidth);
    if (!d_head && g_[kModel] % g_[kHeads] != 0)
      c_.refuse("num_attention_heads", fmt::format("a divisor of the width {}", g_[kModel]));
    dim(kHead) = d_head.value_or(g_[kModel] / g_[kHeads]);
    if (g_[kHead] % 2 != 0) c_.refuse("head_dim", "an even number");
    dim(kQ) = dim(kO) = g_[kHeads] * g_[kHead];
    dim(kKv) = n_kv * g_[kHead];
    dim(kQkv) = g_[kQ] + 2 * g_[kKv];
  }

  void latent_attention() {
    const int64_t d_rope = c_.get_int("qk_rope_head_dim", kHfWidth);
    g_.d_nope = c_.get_int("qk_nope_head_dim", kHfWidth);
    g_.d_v = c_.get_int("v_head_dim", kHfWidth);
    dim(kHead) = g_.d_nope + d_rope;
    dim(kQ) = g_[kHeads] * g_[kHead];
    dim(kO) = g_[kHeads] * g_.d_v;
    dim(kQRank) = c_.find_int("q_lora_rank", kHfWidth).value_or(0);
    dim(kKvRank) = c_.get_int("kv_lora_rank", kHfWidth);
    dim(kKvA) = g_[kKvRank] + d_rope;
    dim(kKvB) = g_[kHeads] * (g_.d_nope + g_.d_v);
  }

  void experts() {
    constexpr HfRange kCount{0, kHfExperts.max};
    g_.n_experts = static_cast<int>(
        c_.find_int_of({"num_local_experts", "num_experts", "n_routed_experts"}, kCount)
            .value_or(0));
    g_.n_leading_dense = g_.n_layers;
    if (g_.n_experts == 0) {
      if (g_[kFf] == 0) c_.refuse("intermediate_size", "a whole number of at least 1");
      return shared();
    }
    dim(kExperts) = g_.n_experts;
    dim(kExpertFf) = c_.find_int("moe_intermediate_size", kHfWidth).value_or(g_[kFf]);
    if (g_[kExpertFf] == 0) c_.refuse("intermediate_size", "a whole number of at least 1");
    dim(kTwoExpertFf) = 2 * g_[kExpertFf];
    dim(kModelBlocks) = g_[kModel] / 32;
    dim(kExpertFfBlocks) = g_[kExpertFf] / 32;
    g_.n_leading_dense =
        static_cast<int>(c_.find_int("first_k_dense_replace", {0, g_.n_layers}).value_or(0));
    for (const char* key : {"moe_layer_freq", "decoder_sparse_step"})
      if (c_.find_int(key, kHfLayers).value_or(1) != 1)
        c_.not_supported(key, "1 (experts in every layer)");
    if (const Json* dense = c_.find("mlp_only_layers"); dense && !dense->empty())
      c_.not_supported("mlp_only_layers", "none (experts in every layer)");
    shared();
  }

  void shared() {
    constexpr HfRange kWidth{0, kHfWidth.max};
    dim(kShared) =
        c_.find_int_of({"shared_expert_intermediate_size", "shared_intermediate_size"}, kWidth)
            .value_or(0);
    if (const auto n = c_.find_int("n_shared_experts", {0, kHfExperts.max}))
      dim(kShared) = *n * g_[kExpertFf];
    dim(kTwoShared) = 2 * g_[kShared];
  }

  void tied() {
    const auto flag = c_.find_bool("tie_word_embeddings");
    g_.tied = flag.value_or(false);
    g_.needs_head = flag.has_value() && !*flag;
  }

  const HfFields& c_;
  HfGeometry g_;
};

}  // namespace

HfGeometry read_geometry(const HfFields& config) { return GeometryReader(config).read(); }

}  // namespace hob
