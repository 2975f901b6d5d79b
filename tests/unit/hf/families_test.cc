// Each family's whole list: names, shapes and keys as llama.cpp's converter writes them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "unit/hf/checkpoint_util.h"

namespace hob {
namespace {

using Shapes = std::map<std::string, std::string>;

Shapes shapes_of(const HfCheckpoint& c) {
  Shapes out;
  for (const HfTensor& t : c.tensors()) out[t.name] = t.shape.str();
  return out;
}

// What both layers have, written for one; names below blk.N. get both layers.
Shapes both_layers(const Shapes& one) {
  Shapes out;
  for (const auto& [name, shape] : one) {
    if (name.rfind("blk.0.", 0) == 0) out["blk.1." + name.substr(6)] = shape;
    out[name] = shape;
  }
  return out;
}

const Shapes kTrunk = {{"token_embd.weight", "[10,64]"}, {"output_norm.weight", "[64]"}};
const Shapes kHead = {{"output.weight", "[10,64]"}};
const Shapes kNorms = {{"blk.0.attn_norm.weight", "[64]"}, {"blk.0.ffn_norm.weight", "[64]"}};
const Shapes kAttention = {{"blk.0.attn_q.weight", "[64,64]"},
                           {"blk.0.attn_k.weight", "[32,64]"},
                           {"blk.0.attn_v.weight", "[32,64]"},
                           {"blk.0.attn_output.weight", "[64,64]"}};
const Shapes kFfn = {{"blk.0.ffn_gate.weight", "[96,64]"},
                     {"blk.0.ffn_up.weight", "[96,64]"},
                     {"blk.0.ffn_down.weight", "[64,96]"}};
const Shapes kExperts = {{"blk.0.ffn_gate_inp.weight", "[4,64]"},
                         {"blk.0.ffn_gate_exps.weight", "[4,32,64]"},
                         {"blk.0.ffn_up_exps.weight", "[4,32,64]"},
                         {"blk.0.ffn_down_exps.weight", "[4,64,32]"}};

Shapes join(std::initializer_list<Shapes> parts) {
  Shapes out;
  for (const Shapes& part : parts) out.insert(part.begin(), part.end());
  return both_layers(out);
}

void add_body(TestCheckpoint& t, bool head, bool bias = false) {
  t.add_trunk(10, 64, head);
  for (int layer = 0; layer < 2; layer++) {
    t.add_attention(layer, 64, 64, 32, bias);
    t.add_norms(layer, 64);
  }
}

void add_mlp(TestCheckpoint& t, int layer) {
  t.add_ffn(fmt::format("model.layers.{}.mlp.", layer), 64, 96);
}

void add_experts(TestCheckpoint& t, int layer, int n = 4) {
  const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
  t.add(mlp + "gate.weight", {n, 64});
  for (int e = 0; e < n; e++) t.add_ffn(fmt::format("{}experts.{}.", mlp, e), 64, 32);
}

uint64_t uint_of(const HfCheckpoint& c, const char* key) { return c.metadata().get_uint(key); }
double float_of(const HfCheckpoint& c, const char* key) { return c.metadata().get_float(key); }

TEST(HfFamilies, Llama) {
  TestCheckpoint t(
      two_layer_config("LlamaForCausalLM", R"("rope_scaling":{"rope_type":"llama3","factor":8})"));
  add_body(t, true);
  for (int layer = 0; layer < 2; layer++) add_mlp(t, layer);
  t.add("model.layers.0.self_attn.rotary_emb.inv_freq", {8}, "F32");
  const HfCheckpoint c = t.open();
  EXPECT_EQ(shapes_of(c),
            join({kTrunk, kHead, kNorms, kAttention, kFfn, {{"rope_freqs.weight", "[8]"}}}));
  EXPECT_EQ(c.metadata().get_string("general.architecture"), "llama");
  EXPECT_EQ(uint_of(c, "llama.block_count"), 2u);
  EXPECT_EQ(uint_of(c, "llama.context_length"), 128u);
  EXPECT_EQ(uint_of(c, "llama.embedding_length"), 64u);
  EXPECT_EQ(uint_of(c, "llama.feed_forward_length"), 96u);
  EXPECT_EQ(uint_of(c, "llama.attention.head_count"), 4u);
  EXPECT_EQ(uint_of(c, "llama.attention.head_count_kv"), 2u);
  EXPECT_EQ(uint_of(c, "llama.rope.dimension_count"), 16u);
  EXPECT_EQ(uint_of(c, "llama.vocab_size"), 10u);
  EXPECT_EQ(float_of(c, "llama.attention.layer_norm_rms_epsilon"), 1e-5);
  EXPECT_EQ(float_of(c, "llama.rope.freq_base"), 10000);
  EXPECT_FALSE(c.metadata().has("llama.expert_count"));
}

TEST(HfFamilies, MistralsWindowIsAKey) {
  TestCheckpoint t(two_layer_config("MistralForCausalLM", R"("sliding_window":32)"));
  add_body(t, true);
  for (int layer = 0; layer < 2; layer++) add_mlp(t, layer);
  EXPECT_EQ(uint_of(t.open(), "llama.attention.sliding_window"), 32u);
}

TEST(HfFamilies, Mixtral) {
  TestCheckpoint t(
      two_layer_config("MixtralForCausalLM", R"("num_local_experts":4,"num_experts_per_tok":2)"));
  add_body(t, true);
  for (int layer = 0; layer < 2; layer++) {
    const std::string moe = fmt::format("model.layers.{}.block_sparse_moe.", layer);
    t.add(moe + "gate.weight", {4, 64});
    for (int e = 0; e < 4; e++)
      for (const auto& [w, rows, cols] : {std::tuple{"w1", 96, 64}, {"w2", 64, 96}, {"w3", 96, 64}})
        t.add(fmt::format("{}experts.{}.{}.weight", moe, e, w), {rows, cols});
  }
  const HfCheckpoint c = t.open();
  EXPECT_EQ(shapes_of(c), join({kTrunk,
                                kHead,
                                kNorms,
                                kAttention,
                                {{"blk.0.ffn_gate_inp.weight", "[4,64]"},
                                 {"blk.0.ffn_gate_exps.weight", "[4,96,64]"},
                                 {"blk.0.ffn_up_exps.weight", "[4,96,64]"},
                                 {"blk.0.ffn_down_exps.weight", "[4,64,96]"}}}));
  EXPECT_EQ(uint_of(c, "llama.expert_count"), 4u);
  EXPECT_EQ(uint_of(c, "llama.expert_used_count"), 2u);
}

const Shapes kBiases = {
    {"blk.0.attn_q.bias", "[64]"}, {"blk.0.attn_k.bias", "[32]"}, {"blk.0.attn_v.bias", "[32]"}};
const Shapes kHeadNorms = {{"blk.0.attn_q_norm.weight", "[16]"},
                           {"blk.0.attn_k_norm.weight", "[16]"}};

void add_head_norms(TestCheckpoint& t, int64_t d_q, int64_t d_k) {
  for (int layer = 0; layer < 2; layer++) {
    t.add(fmt::format("model.layers.{}.self_attn.q_norm.weight", layer), {d_q});
    t.add(fmt::format("model.layers.{}.self_attn.k_norm.weight", layer), {d_k});
  }
}

TEST(HfFamilies, Qwen2TiedAndQwen3) {
  TestCheckpoint two(two_layer_config("Qwen2ForCausalLM", R"("tie_word_embeddings":true,
      "use_sliding_window":false,"sliding_window":32)"));
  add_body(two, true, true);  // a tied head in the file is no more than a copy
  TestCheckpoint three(
      two_layer_config("Qwen3ForCausalLM", R"("head_dim":16,"tie_word_embeddings":false)"));
  add_body(three, true);
  add_head_norms(three, 16, 16);
  for (int layer = 0; layer < 2; layer++) {
    add_mlp(two, layer);
    add_mlp(three, layer);
  }
  EXPECT_EQ(shapes_of(two.open()), join({kTrunk, kNorms, kAttention, kBiases, kFfn}));
  const HfCheckpoint c = three.open();
  EXPECT_EQ(shapes_of(c), join({kTrunk, kHead, kNorms, kAttention, kHeadNorms, kFfn}));
  EXPECT_EQ(uint_of(c, "qwen3.attention.key_length"), 16u);
  EXPECT_EQ(uint_of(c, "qwen3.attention.value_length"), 16u);
}

TEST(HfFamilies, Qwen2Moe) {
  TestCheckpoint t(
      two_layer_config("Qwen2MoeForCausalLM", R"("num_experts":4,"num_experts_per_tok":2,
      "moe_intermediate_size":32,"shared_expert_intermediate_size":48,"norm_topk_prob":false)"));
  add_body(t, true, true);
  for (int layer = 0; layer < 2; layer++) {
    add_experts(t, layer);
    const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
    t.add(mlp + "shared_expert_gate.weight", {1, 64});
    t.add_ffn(mlp + "shared_expert.", 64, 48);
  }
  const HfCheckpoint c = t.open();
  EXPECT_EQ(shapes_of(c), join({kTrunk,
                                kHead,
                                kNorms,
                                kAttention,
                                kBiases,
                                kExperts,
                                {{"blk.0.ffn_gate_inp_shexp.weight", "[1,64]"},
                                 {"blk.0.ffn_gate_shexp.weight", "[48,64]"},
                                 {"blk.0.ffn_up_shexp.weight", "[48,64]"},
                                 {"blk.0.ffn_down_shexp.weight", "[64,48]"}}}));
  EXPECT_EQ(uint_of(c, "qwen2moe.expert_feed_forward_length"), 32u);
  EXPECT_EQ(uint_of(c, "qwen2moe.expert_shared_feed_forward_length"), 48u);
  EXPECT_EQ(find_tensor(c, "blk.0.ffn_gate_inp_shexp.weight")->dtype, DType::kF32);
}

TEST(HfFamilies, Qwen3MoeInBothLayouts) {
  for (const bool fused : {false, true}) {
    TestCheckpoint t(
        two_layer_config("Qwen3MoeForCausalLM", R"("num_experts":4,"num_experts_per_tok":2,
        "moe_intermediate_size":32,"head_dim":16,"norm_topk_prob":true)"));
    add_body(t, true);
    add_head_norms(t, 16, 16);
    for (int layer = 0; layer < 2; layer++) {
      if (!fused) {
        add_experts(t, layer);
        continue;
      }
      const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
      t.add(mlp + "gate.weight", {4, 64});
      t.add(mlp + "experts.gate_up_proj", {4, 64, 64});
      t.add(mlp + "experts.down_proj", {4, 64, 32});
    }
    EXPECT_EQ(shapes_of(t.open()), join({kTrunk, kHead, kNorms, kAttention, kHeadNorms, kExperts}));
  }
}

TEST(HfFamilies, Olmoe) {
  TestCheckpoint t(two_layer_config("OlmoeForCausalLM", R"("num_experts":4,"num_experts_per_tok":2,
      "moe_intermediate_size":32,"clip_qkv":null)"));
  add_body(t, true);
  add_head_norms(t, 64, 32);
  for (int layer = 0; layer < 2; layer++) add_experts(t, layer);
  EXPECT_EQ(shapes_of(t.open()),
            join({kTrunk,
                  kHead,
                  kNorms,
                  kAttention,
                  kExperts,
                  {{"blk.0.attn_q_norm.weight", "[64]"}, {"blk.0.attn_k_norm.weight", "[32]"}}}));
}

// Multimodal: the language part has its own config and prefix, and the vision tower is left out.
TEST(HfFamilies, Gemma3) {
  const std::string text = R"({"hidden_size":64,"num_hidden_layers":1,"vocab_size":10,
      "intermediate_size":96,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,
      "query_pre_attn_scalar":16,"sliding_window":32,
      "rope_scaling":{"factor":8.0,"rope_type":"linear"}})";
  for (const std::string prefix : {"language_model.model.", "model.language_model."}) {
    TestCheckpoint t(
        fmt::format(R"({{"architectures":["Gemma3ForConditionalGeneration"],"text_config":{},
            "vision_config":{{"hidden_size":5}}}})",
                    text));
    t.add(prefix + "embed_tokens.weight", {10, 64});
    t.add(prefix + "norm.weight", {64});
    const std::string layer = prefix + "layers.0.";
    for (const char* name : {"input_layernorm", "post_attention_layernorm",
                             "pre_feedforward_layernorm", "post_feedforward_layernorm"})
      t.add(layer + name + ".weight", {64});
    t.add(layer + "self_attn.q_proj.weight", {64, 64});
    t.add(layer + "self_attn.k_proj.weight", {32, 64});
    t.add(layer + "self_attn.v_proj.weight", {32, 64});
    t.add(layer + "self_attn.o_proj.weight", {64, 64});
    t.add(layer + "self_attn.q_norm.weight", {16});
    t.add(layer + "self_attn.k_norm.weight", {16});
    t.add_ffn(layer + "mlp.", 64, 96);
    t.add("vision_tower.vision_model.embeddings.patch_embedding.weight", {2, 3, 4, 4});
    t.add("multi_modal_projector.mm_input_projection_weight", {2, 64});
    const HfCheckpoint c = t.open();
    Shapes expected = join(
        {kTrunk,
         kNorms,
         kAttention,
         kHeadNorms,
         kFfn,
         {{"blk.0.post_attention_norm.weight", "[64]"}, {"blk.0.post_ffw_norm.weight", "[64]"}}});
    std::erase_if(expected, [](const auto& e) { return e.first.rfind("blk.1.", 0) == 0; });
    EXPECT_EQ(shapes_of(c), expected);
    EXPECT_EQ(float_of(c, "gemma3.rope.freq_base"), 1e6);
    EXPECT_EQ(float_of(c, "gemma3.rope.freq_base_swa"), 1e4);
    EXPECT_EQ(float_of(c, "gemma3.rope.scaling.factor"), 8);
    EXPECT_EQ(uint_of(c, "gemma3.context_length"), 131072u);
    EXPECT_EQ(uint_of(c, "gemma3.attention.sliding_window"), 32u);
    EXPECT_FALSE(c.metadata().has("gemma3.attention.scale"));
  }
}

TEST(HfFamilies, DeepSeekMoe) {
  TestCheckpoint t(
      two_layer_config("DeepseekForCausalLM", R"("n_routed_experts":4,"num_experts_per_tok":2,
      "moe_intermediate_size":32,"n_shared_experts":2,"first_k_dense_replace":1,
      "moe_layer_freq":1,"scoring_func":"softmax")"));
  add_body(t, true);
  add_mlp(t, 0);
  add_experts(t, 1);
  t.add_ffn("model.layers.1.mlp.shared_experts.", 64, 64);
  const HfCheckpoint c = t.open();
  const Shapes shapes = shapes_of(c);
  EXPECT_EQ(shapes.at("blk.0.ffn_gate.weight"), "[96,64]");
  EXPECT_EQ(shapes.at("blk.1.ffn_gate_exps.weight"), "[4,32,64]");
  EXPECT_EQ(shapes.at("blk.1.ffn_gate_shexp.weight"), "[64,64]");
  EXPECT_FALSE(shapes.contains("blk.0.ffn_gate_inp.weight"));
  EXPECT_EQ(uint_of(c, "deepseek.leading_dense_block_count"), 1u);
  EXPECT_EQ(uint_of(c, "deepseek.expert_shared_count"), 2u);
  EXPECT_EQ(uint_of(c, "deepseek.expert_count"), 4u);
}

TEST(HfFamilies, DeepSeekV2WithAndWithoutFactoredQueries) {
  for (const bool factored : {false, true}) {
    TestCheckpoint t(two_layer_config("DeepseekV2ForCausalLM",
                                      fmt::format(R"("kv_lora_rank":20,"qk_nope_head_dim":6,
        "qk_rope_head_dim":4,"v_head_dim":8,"q_lora_rank":{},"n_routed_experts":4,
        "num_experts_per_tok":2,"moe_intermediate_size":32,"n_shared_experts":1,
        "first_k_dense_replace":1,"routed_scaling_factor":1.0,"norm_topk_prob":false,
        "n_group":1,"topk_group":1,"rope_scaling":{{"type":"yarn","factor":40,"beta_fast":32,
        "beta_slow":1,"mscale":0.707,"mscale_all_dim":0.707,
        "original_max_position_embeddings":4096}})",
                                                  factored ? "12" : "null")));
    t.add_trunk(10, 64);
    for (int layer = 0; layer < 2; layer++) {
      t.add_norms(layer, 64);
      const std::string prefix = fmt::format("model.layers.{}.self_attn.", layer);
      if (factored) {
        t.add(prefix + "q_a_proj.weight", {12, 64});
        t.add(prefix + "q_a_layernorm.weight", {12});
        t.add(prefix + "q_b_proj.weight", {40, 12});
      } else {
        t.add(prefix + "q_proj.weight", {40, 64});
      }
      t.add(prefix + "kv_a_proj_with_mqa.weight", {24, 64});
      t.add(prefix + "kv_a_layernorm.weight", {20});
      t.add(prefix + "kv_b_proj.weight", {56, 20});
      t.add(prefix + "o_proj.weight", {64, 32});
    }
    add_mlp(t, 0);
    add_experts(t, 1);
    t.add_ffn("model.layers.1.mlp.shared_experts.", 64, 32);
    const HfCheckpoint c = t.open();
    const Shapes shapes = shapes_of(c);
    EXPECT_EQ(shapes.at("blk.0.attn_k_b.weight"), "[4,20,6]");
    EXPECT_EQ(shapes.at("blk.0.attn_v_b.weight"), "[4,8,20]");
    EXPECT_EQ(shapes.at("blk.1.attn_kv_a_mqa.weight"), "[24,64]");
    EXPECT_EQ(shapes.at("blk.1.attn_kv_a_norm.weight"), "[20]");
    EXPECT_EQ(shapes.contains("blk.0.attn_q.weight"), !factored);
    EXPECT_EQ(shapes.contains("blk.0.attn_q_b.weight"), factored);
    EXPECT_EQ(uint_of(c, "deepseek2.attention.head_count_kv"), 1u);
    EXPECT_EQ(uint_of(c, "deepseek2.attention.key_length"), 24u);
    EXPECT_EQ(uint_of(c, "deepseek2.attention.value_length"), 20u);
    EXPECT_EQ(uint_of(c, "deepseek2.attention.key_length_mla"), 10u);
    EXPECT_EQ(uint_of(c, "deepseek2.attention.value_length_mla"), 8u);
    EXPECT_EQ(uint_of(c, "deepseek2.rope.dimension_count"), 4u);
    EXPECT_EQ(c.metadata().has("deepseek2.attention.q_lora_rank"), factored);
    EXPECT_NEAR(float_of(c, "deepseek2.rope.scaling.yarn_log_multiplier"), 0.0707, 1e-9);
  }
}

TEST(HfFamilies, GraniteHasFourScalars) {
  TestCheckpoint t(two_layer_config("GraniteForCausalLM", R"("attention_multiplier":0.015625,
      "embedding_multiplier":12.0,"residual_multiplier":0.22,"logits_scaling":8,
      "tie_word_embeddings":true)"));
  add_body(t, false);
  for (int layer = 0; layer < 2; layer++) add_mlp(t, layer);
  const HfCheckpoint c = t.open();
  EXPECT_EQ(shapes_of(c), join({kTrunk, kNorms, kAttention, kFfn}));
  EXPECT_EQ(float_of(c, "granite.attention.scale"), 0.015625);
  EXPECT_EQ(float_of(c, "granite.embedding_scale"), 12);
  EXPECT_EQ(float_of(c, "granite.residual_scale"), 0.22);
  EXPECT_EQ(float_of(c, "granite.logit_scale"), 8);
}

TEST(HfFamilies, Phi3StaysFused) {
  TestCheckpoint t(two_layer_config("Phi3ForCausalLM", R"("sliding_window":2047,
      "original_max_position_embeddings":64,"rope_scaling":{"type":"longrope",
      "long_factor":[1,2,3,4,5,6,7,8],"short_factor":[1,1,1,1,1,1,1,1]})"));
  t.add_trunk(10, 64);
  for (int layer = 0; layer < 2; layer++) {
    t.add_norms(layer, 64);
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    t.add(prefix + "self_attn.qkv_proj.weight", {128, 64});
    t.add(prefix + "self_attn.o_proj.weight", {64, 64});
    t.add(prefix + "mlp.gate_up_proj.weight", {192, 64});
    t.add(prefix + "mlp.down_proj.weight", {64, 96});
  }
  const HfCheckpoint c = t.open();
  EXPECT_EQ(shapes_of(c), join({kTrunk,
                                kHead,
                                kNorms,
                                {{"blk.0.attn_qkv.weight", "[128,64]"},
                                 {"blk.0.attn_output.weight", "[64,64]"},
                                 {"blk.0.ffn_up.weight", "[192,64]"},
                                 {"blk.0.ffn_down.weight", "[64,96]"},
                                 {"rope_factors_long.weight", "[8]"},
                                 {"rope_factors_short.weight", "[8]"}}}));
  EXPECT_EQ(uint_of(c, "phi3.attention.sliding_window"), 2047u);
  EXPECT_EQ(uint_of(c, "phi3.rope.scaling.original_context_length"), 64u);
  EXPECT_EQ(uint_of(c, "phi3.rope.dimension_count"), 16u);
}

TEST(HfFamilies, PhiMoeHasBiases) {
  TestCheckpoint t(
      two_layer_config("PhiMoEForCausalLM", R"("num_local_experts":2,"num_experts_per_tok":2,
      "attention_bias":true,"lm_head_bias":true)"));
  add_body(t, true, true);
  t.add("model.norm.bias", {64});
  t.add("lm_head.bias", {10});
  for (int layer = 0; layer < 2; layer++) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    t.add(prefix + "input_layernorm.bias", {64});
    t.add(prefix + "post_attention_layernorm.bias", {64});
    t.add(prefix + "self_attn.o_proj.bias", {64});
    t.add(prefix + "block_sparse_moe.gate.weight", {2, 64});
    for (int e = 0; e < 2; e++)
      for (const auto& [w, rows, cols] : {std::tuple{"w1", 96, 64}, {"w2", 64, 96}, {"w3", 96, 64}})
        t.add(fmt::format("{}block_sparse_moe.experts.{}.{}.weight", prefix, e, w), {rows, cols});
  }
  EXPECT_EQ(shapes_of(t.open()), join({kTrunk,
                                       kHead,
                                       kNorms,
                                       kAttention,
                                       kBiases,
                                       {{"output_norm.bias", "[64]"},
                                        {"output.bias", "[10]"},
                                        {"blk.0.attn_norm.bias", "[64]"},
                                        {"blk.0.ffn_norm.bias", "[64]"},
                                        {"blk.0.attn_output.bias", "[64]"},
                                        {"blk.0.ffn_gate_inp.weight", "[2,64]"},
                                        {"blk.0.ffn_gate_exps.weight", "[2,96,64]"},
                                        {"blk.0.ffn_up_exps.weight", "[2,96,64]"},
                                        {"blk.0.ffn_down_exps.weight", "[2,64,96]"}}}));
}

}  // namespace
}  // namespace hob
