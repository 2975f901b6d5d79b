// Llama 1-3, Mistral, SmolLM; with experts: Mixtral.
#include "hf/hf_family.h"

namespace hob {
namespace {

void keys(const HfFields& c, const HfGeometry& g, HfKeys& k) {
  k.count("rope.dimension_count", g[HfDim::kHead]);
  // Mistral 7B v0.1. llama.cpp's converter drops it: its llama family knows no window.
  if (const auto window = c.find_int("sliding_window", kHfCtx))
    k.count("attention.sliding_window", *window);
}

HfRules rules(const HfGeometry&) {
  return trunk_rules() + layer_norm_rules() + attention_rules(HfRows::kRotary) +
         dense_ffn_rules(HfWhen::kDense) + block_sparse_expert_rules();
}

}  // namespace

HfFamily hf_llama() {
  return {"llama",
          {"LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"},
          "",
          keys,
          rules};
}

}  // namespace hob
