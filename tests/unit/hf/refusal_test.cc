// What GGUF cannot express, and numbers that make no sense.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "format/strict_json.h"
#include "unit/hf/checkpoint_util.h"

namespace hob {
namespace {

// What would be lost in GGUF, or quietly wrong in its readers, is refused by name.
TEST(HfFamilies, RefuseWhatTheyCannotExpress) {
  const struct {
    const char *architecture, *fields, *error;
  } kRows[] = {
      {"MambaForCausalLM", R"("x":1)", "architectures: expected one of LlamaForCausalLM"},
      {"LlamaForCausalLM", R"("hidden_act":"relu")",
       "hidden_act: expected silu, file has \"relu\""},
      {"LlamaForCausalLM", R"("quantization_config":{"quant_method":"bitsandbytes"})",
       "quantization_config.quant_method: expected gptq, awq, compressed-tensors or mxfp4, file "
       "has \"bitsandbytes\""},
      {"LlamaForCausalLM", R"("quantization_config":{"quant_method":"gptq"})",
       "quantization_config.bits: expected"},
      {"LlamaForCausalLM", R"("quantization_config":{"quant_method":"gptq","bits":5})",
       "quantization_config.bits: expected 2, 3, 4 or 8, file has 5"},
      {"LlamaForCausalLM",
       R"("quantization_config":{"quant_method":"gptq","bits":4,"group_size":48})",
       "quantization_config.group_size: expected -1 or a multiple of 32, file has 48"},
      {"LlamaForCausalLM", R"("quantization_config":{"quant_method":"awq","bits":3})",
       "quantization_config.bits: expected 4, file has 3"},
      {"LlamaForCausalLM",
       R"("quantization_config":{"quant_method":"awq","bits":4,"group_size":64,"version":"gemv"})",
       "quantization_config.version: expected gemm"},
      {"LlamaForCausalLM",
       R"("quantization_config":{"quant_method":"compressed-tensors","format":"float-quantized"})",
       "quantization_config.format: expected pack-quantized"},
      {"Qwen2ForCausalLM", R"("use_sliding_window":true)", "use_sliding_window: expected false"},
      {"Qwen2MoeForCausalLM", R"("num_experts":4,"decoder_sparse_step":2)", "decoder_sparse_step"},
      {"Qwen3MoeForCausalLM", R"("num_experts":4,"mlp_only_layers":[0])", "mlp_only_layers"},
      {"OlmoeForCausalLM", R"("num_experts":4,"clip_qkv":8.0)", "clip_qkv: expected none"},
      {"DeepseekForCausalLM", R"("n_routed_experts":4,"moe_layer_freq":2)", "moe_layer_freq"},
      {"DeepseekForCausalLM", R"("n_routed_experts":4,"scoring_func":"tanh")", "scoring_func"},
      {"DeepseekForCausalLM", R"("n_routed_experts":4,"first_k_dense_replace":3)",
       "first_k_dense_replace: expected a whole number from 0 to 2, file has 3"},
      {"Gemma3ForCausalLM", R"("sliding_window_pattern":2,"layer_types":["full_attention"])",
       "layer_types: expected one full_attention every 2 layers"},
      {"GptOssForCausalLM", R"("num_local_experts":4,"sliding_window":8,"swiglu_limit":5)",
       "swiglu_limit"},
      {"LlamaForCausalLM", R"("head_dim":15)", "head_dim: expected an even number"},
  };
  for (const auto& row : kRows) {
    const TestCheckpoint t(two_layer_config(row.architecture, row.fields));
    const std::string error = error_of(t);
    EXPECT_NE(error.find(row.error), std::string::npos) << row.fields << ": " << error;
  }
}

// Each number that sizes something, absurd in turn: one line, and no large allocation first.
TEST(HfFamilies, RefuseAbsurdNumbers) {
  for (const char* key :
       {"hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings",
        "num_attention_heads", "num_key_value_heads", "intermediate_size"})
    for (const char* value : {"0", "-1", "9223372036854775807", "1e300", "0.5", "\"8\"", "[]"}) {
      Json changed = Json::parse(two_layer_config("LlamaForCausalLM", R"("x":1)"));
      changed[key] = Json::parse(value);
      const TestCheckpoint t(changed.dump());
      EXPECT_EQ(error_of(t).rfind(fmt::format("[hf] config.json: {}: expected", key), 0), 0u)
          << key << " = " << value << ": " << error_of(t);
    }
}

}  // namespace
}  // namespace hob
