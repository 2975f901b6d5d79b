#pragma once
// The mixtures of llama.cpp's file types: tensors where errors cost most get more bits. Users know
// the sizes and the quality of these, so hob makes the same choices.
#include <map>
#include <string>

#include "quant/quant_plan.h"

namespace hob {

enum class TensorRole {
  kOther,
  kOutput,
  kTokenEmbedding,
  kAttentionV,  // or what contains it: qkv, kv_b
  kAttentionK,
  kAttentionOutput,
  kFfnDown,
};
TensorRole tensor_role(const std::string& name);
int layer_of(const std::string& name);  // -1: none

class Mixture {
 public:
  Mixture(const ModelFile& model, const FileType& type, bool has_importance);
  DType choose(const RawTensor& tensor) const;
  bool tied() const { return tied_; }  // the token embedding is the output too

 private:
  // The part of a role's layers where more bits pay: both ends and every third between.
  static bool more_bits(int i, int n) {
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
  }
  DType output(const RawTensor& tensor) const;
  DType attention_v(int index) const;
  DType attention_output() const;
  DType ffn_down(int layer) const;
  bool is(DType base, char size) const { return type_.base == base && type_.size == size; }
  bool is_iq4() const { return type_.base == DType::kIQ4_NL || type_.base == DType::kIQ4_XS; }

  const FileType& type_;
  bool has_importance_, tied_ = true, is_70b_ = false;
  int64_t n_layers_ = 0, n_experts_ = 0, heads_per_kv_ = 1;
  std::map<int, int> v_index_;  // of a layer, among those with such a tensor
};

}  // namespace hob
