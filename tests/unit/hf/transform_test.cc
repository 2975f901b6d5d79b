// Every transform against a naive computation over coordinates.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "unit/hf/checkpoint_util.h"

namespace hob {
namespace {

using At = std::vector<int64_t>;

std::string config(const std::string& architecture, const std::string& more) {
  return fmt::format(R"({{"architectures":["{}"],"hidden_size":64,"num_hidden_layers":1,
      "vocab_size":10,"max_position_embeddings":128,"rms_norm_eps":1e-5,{}}})",
                     architecture, more);
}

// Whole and in odd pieces: where a read begins must not matter.
void expect_equal(const HfCheckpoint& c, std::string_view name, const Array& expected) {
  for (const int64_t piece : {int64_t{1}, int64_t{3}, int64_t{1000}}) {
    const Array got = read_array(c, name, piece);
    EXPECT_EQ(got.shape, expected.shape) << name;
    EXPECT_EQ(got.values, expected.values) << name << " in pieces of " << piece;
  }
}

// Rotary pairs from half a head apart to adjacent: row 2j + s of a head comes from s * d/2 + j.
Array rotary(const Array& a, int64_t d_head) {
  return a.pick(a.shape, [&](const At& at) {
    At from = at;
    const int64_t head = at[0] / d_head, i = at[0] % d_head;
    from[0] = head * d_head + i % 2 * (d_head / 2) + i / 2;
    return from;
  });
}

Array stack(const TestCheckpoint& t, const std::string& pattern, int n) {
  Array out{{n}, {}};
  for (int e = 0; e < n; e++) {
    const Array& one = t[fmt::format(fmt::runtime(pattern), e)];
    if (e == 0) out.shape.insert(out.shape.end(), one.shape.begin(), one.shape.end());
    out.values.insert(out.values.end(), one.values.begin(), one.values.end());
  }
  return out;
}

// Along `axis`: every `step`-th from `first`, `n` of them.
Array slice(const Array& a, size_t axis, int64_t first, int64_t step, int64_t n) {
  At shape = a.shape;
  shape[axis] = n;
  return a.pick(shape, [&](const At& at) {
    At from = at;
    from[axis] = first + step * at[axis];
    return from;
  });
}

Array swap_last(const Array& a) {
  At shape = a.shape;
  std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
  return a.pick(shape, [](const At& at) {
    At from = at;
    std::swap(from[from.size() - 1], from[from.size() - 2]);
    return from;
  });
}

TestCheckpoint mixtral() {
  return TestCheckpoint(config("MixtralForCausalLM", R"("num_attention_heads":8,
      "num_key_value_heads":4,"intermediate_size":96,"num_local_experts":3,
      "num_experts_per_tok":2)"));
}

void fill_mixtral(TestCheckpoint& t) {
  t.add_trunk(10, 64);
  t.add_attention(0, 64, 64, 32, true);
  t.add_norms(0, 64);
  const std::string moe = "model.layers.0.block_sparse_moe.";
  t.add(moe + "gate.weight", {3, 64});
  for (int e = 0; e < 3; e++) {
    const std::string expert = fmt::format("{}experts.{}.", moe, e);
    t.add(expert + "w1.weight", {96, 64});
    t.add(expert + "w2.weight", {64, 96});
    t.add(expert + "w3.weight", {96, 64});
  }
}

TEST(HfTransform, QueriesAndKeysOfLlamaArePermuted) {
  TestCheckpoint t = mixtral();
  fill_mixtral(t);
  const HfCheckpoint c = t.open();
  const std::string prefix = "model.layers.0.self_attn.";
  expect_equal(c, "blk.0.attn_q.weight", rotary(t[prefix + "q_proj.weight"], 8));
  expect_equal(c, "blk.0.attn_k.weight", rotary(t[prefix + "k_proj.weight"], 8));
  expect_equal(c, "blk.0.attn_q.bias", rotary(t[prefix + "q_proj.bias"], 8));
  expect_equal(c, "blk.0.attn_k.bias", rotary(t[prefix + "k_proj.bias"], 8));
  expect_equal(c, "blk.0.attn_v.weight", t[prefix + "v_proj.weight"]);
  expect_equal(c, "blk.0.attn_v.bias", t[prefix + "v_proj.bias"]);
  expect_equal(c, "blk.0.attn_output.weight", t[prefix + "o_proj.weight"]);
}

TEST(HfTransform, ExpertsAreStacked) {
  TestCheckpoint t = mixtral();
  fill_mixtral(t);
  const HfCheckpoint c = t.open();
  const std::string expert = "model.layers.0.block_sparse_moe.experts.{}.";
  expect_equal(c, "blk.0.ffn_gate_exps.weight", stack(t, expert + "w1.weight", 3));
  expect_equal(c, "blk.0.ffn_down_exps.weight", stack(t, expert + "w2.weight", 3));
  expect_equal(c, "blk.0.ffn_up_exps.weight", stack(t, expert + "w3.weight", 3));
}

TEST(HfTransform, TypesFollowTheChoice) {
  TestCheckpoint t = mixtral();
  fill_mixtral(t);
  t.remove("model.layers.0.self_attn.v_proj.weight");
  t.add("model.layers.0.self_attn.v_proj.weight", {32, 64}, "F16");
  const auto type = [](const HfCheckpoint& c, const char* name) {
    return find_tensor(c, name)->dtype;
  };
  const struct {
    HfOutType out;
    DType matrix, half_matrix;
    uint64_t file_type;
  } kRows[] = {{HfOutType::kAuto, DType::kBF16, DType::kF16, 32},
               {HfOutType::kF32, DType::kF32, DType::kF32, 0},
               {HfOutType::kF16, DType::kF16, DType::kF16, 1},
               {HfOutType::kBF16, DType::kBF16, DType::kBF16, 32},
               {HfOutType::kQ8_0, DType::kQ8_0, DType::kQ8_0, 7}};
  for (const auto& row : kRows) {
    const HfCheckpoint c = t.open(row.out);
    EXPECT_EQ(type(c, "blk.0.attn_q.weight"), row.matrix);
    EXPECT_EQ(type(c, "blk.0.attn_v.weight"), row.half_matrix);
    EXPECT_EQ(type(c, "token_embd.weight"), row.matrix);
    for (const char* name : {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.bias",
                             "blk.0.ffn_gate_inp.weight"})
      EXPECT_EQ(type(c, name), DType::kF32) << name;
    EXPECT_EQ(c.metadata().get_uint("general.file_type"), row.file_type);
    const Array& v = t["model.layers.0.self_attn.v_proj.weight"];
    const Array got = read_array(c, "blk.0.attn_v.weight", 7);
    for (size_t i = 0; i < v.values.size(); i++)
      ASSERT_NEAR(got.values[i], v.values[i], row.out == HfOutType::kQ8_0 ? 0.6f : 0.f);
  }
}

TEST(HfTransform, RowsThatAreNoWholeBlocksStayF16) {
  TestCheckpoint t(config("LlamaForCausalLM", R"("num_attention_heads":4,"intermediate_size":40)"));
  t.add_trunk(10, 64);
  t.add_attention(0, 64, 64, 64);
  t.add_norms(0, 64);
  t.add_ffn("model.layers.0.mlp.", 64, 40);
  const HfCheckpoint c = t.open(HfOutType::kQ8_0);
  EXPECT_EQ(find_tensor(c, "blk.0.ffn_down.weight")->dtype, DType::kF16);
  EXPECT_EQ(find_tensor(c, "blk.0.ffn_up.weight")->dtype, DType::kQ8_0);
}

TEST(HfTransform, GraniteSplitsGateFromUp) {
  TestCheckpoint t(config("GraniteMoeSharedForCausalLM", R"("num_attention_heads":4,
      "intermediate_size":24,"shared_intermediate_size":32,"num_local_experts":3,
      "num_experts_per_tok":2,"tie_word_embeddings":true)"));
  t.add_trunk(10, 64, false);
  t.add_attention(0, 64, 64, 64);
  t.add_norms(0, 64);
  const std::string prefix = "model.layers.0.";
  t.add(prefix + "block_sparse_moe.router.layer.weight", {3, 64});
  t.add(prefix + "block_sparse_moe.input_linear.weight", {3, 48, 64});
  t.add(prefix + "block_sparse_moe.output_linear.weight", {3, 64, 24});
  t.add(prefix + "shared_mlp.input_linear.weight", {64, 64});
  t.add(prefix + "shared_mlp.output_linear.weight", {64, 32});
  const HfCheckpoint c = t.open();
  const Array& fused = t[prefix + "block_sparse_moe.input_linear.weight"];
  expect_equal(c, "blk.0.ffn_gate_exps.weight", slice(fused, 1, 0, 1, 24));
  expect_equal(c, "blk.0.ffn_up_exps.weight", slice(fused, 1, 24, 1, 24));
  const HfTensor& up = *find_tensor(c, "blk.0.ffn_up_exps.weight");
  const uint64_t start = find_hf_rows(up, 0, 24)->offset;
  EXPECT_EQ(find_hf_rows(up, 24, 24)->offset - start, 48u * 64 * 2);  // the next expert's
  EXPECT_EQ(find_hf_rows(up, 23, 2), std::nullopt);
  expect_equal(c, "blk.0.ffn_down_exps.weight",
               t[prefix + "block_sparse_moe.output_linear.weight"]);
  const Array& shared = t[prefix + "shared_mlp.input_linear.weight"];
  expect_equal(c, "blk.0.ffn_gate_shexp.weight", slice(shared, 0, 0, 1, 32));
  expect_equal(c, "blk.0.ffn_up_shexp.weight", slice(shared, 0, 32, 1, 32));
}

TEST(HfTransform, GemmasNormsAreOneMore) {
  TestCheckpoint t(config("Gemma3ForCausalLM", R"("num_attention_heads":4,"num_key_value_heads":2,
      "head_dim":16,"intermediate_size":32,"sliding_window":16,"query_pre_attn_scalar":16)"));
  t.add_trunk(10, 64, false);
  t.add_attention(0, 64, 64, 32);
  const std::string prefix = "model.layers.0.";
  for (const char* name : {"input_layernorm", "post_attention_layernorm",
                           "pre_feedforward_layernorm", "post_feedforward_layernorm"})
    t.add(prefix + name + ".weight", {64});
  for (const char* name : {"self_attn.q_norm", "self_attn.k_norm"})
    t.add(prefix + name + ".weight", {16});
  t.add_ffn(prefix + "mlp.", 64, 32);
  const HfCheckpoint c = t.open();
  for (const auto& [gguf, hf] :
       {std::pair{"output_norm.weight", "model.norm.weight"},
        {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
        {"blk.0.ffn_norm.weight", "model.layers.0.pre_feedforward_layernorm.weight"},
        {"blk.0.post_attention_norm.weight", "model.layers.0.post_attention_layernorm.weight"},
        {"blk.0.post_ffw_norm.weight", "model.layers.0.post_feedforward_layernorm.weight"},
        {"blk.0.attn_q_norm.weight", "model.layers.0.self_attn.q_norm.weight"},
        {"blk.0.attn_k_norm.weight", "model.layers.0.self_attn.k_norm.weight"}}) {
    Array expected = t[hf];
    for (float& x : expected.values) x += 1;
    expect_equal(c, gguf, expected);
  }
  expect_equal(c, "blk.0.attn_q.weight", t["model.layers.0.self_attn.q_proj.weight"]);
}

TEST(HfTransform, LatentKeysAreTransposedAndValuesAreNot) {
  TestCheckpoint t(config("DeepseekV2ForCausalLM", R"("num_attention_heads":3,"kv_lora_rank":20,
      "qk_nope_head_dim":6,"qk_rope_head_dim":4,"v_head_dim":8,"intermediate_size":32)"));
  t.add_trunk(10, 64);
  t.add_norms(0, 64);
  const std::string prefix = "model.layers.0.self_attn.";
  t.add(prefix + "q_proj.weight", {30, 64});
  t.add(prefix + "kv_a_proj_with_mqa.weight", {24, 64});
  t.add(prefix + "kv_a_layernorm.weight", {20});
  t.add(prefix + "kv_b_proj.weight", {3 * 14, 20});
  t.add(prefix + "o_proj.weight", {64, 24});
  t.add_ffn("model.layers.0.mlp.", 64, 32);
  const HfCheckpoint c = t.open();
  const Array& kv = t[prefix + "kv_b_proj.weight"];
  expect_equal(c, "blk.0.attn_k_b.weight", kv.pick({3, 20, 6}, [](const At& at) {
    return At{at[0] * 14 + at[2], at[1]};
  }));
  expect_equal(c, "blk.0.attn_v_b.weight", kv.pick({3, 8, 20}, [](const At& at) {
    return At{at[0] * 14 + 6 + at[1], at[2]};
  }));
}

class GptOss : public testing::Test {
 protected:
  static constexpr int64_t kExperts = 2, kFf = 32, kModel = 64;
  GptOss()
      : t(config("GptOssForCausalLM", R"("num_attention_heads":4,"head_dim":16,
          "intermediate_size":32,"num_local_experts":2,"num_experts_per_tok":1,
          "sliding_window":16,"quantization_config":{"quant_method":"mxfp4"})")) {
    t.add_trunk(10, kModel);
    t.add_attention(0, kModel, 64, 64, true);
    t.add_norms(0, kModel);
    t.add("model.layers.0.self_attn.o_proj.bias", {kModel});
    t.add("model.layers.0.self_attn.sinks", {4});
    t.add("model.layers.0.mlp.router.weight", {kExperts, kModel});
    t.add("model.layers.0.mlp.router.bias", {kExperts});
    t.add(kExpertPrefix + "gate_up_proj_bias", {kExperts, 2 * kFf});
    t.add(kExpertPrefix + "down_proj_bias", {kExperts, kModel});
  }

  // Random blocks; the numbers as transformers dequantises them.
  Array add_mxfp4(const std::string& name, int64_t rows, int64_t cols) {
    constexpr float kTable[] = {0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6};
    const int64_t n_blocks = kExperts * rows * cols / 32;
    std::string blocks, scales;
    Array out{{kExperts, rows, cols}, {}};
    uint32_t state = 7;
    for (int64_t b = 0; b < n_blocks; b++) {
      scales += static_cast<char>(120 + b % 15);
      for (int k = 0; k < 16; k++) {
        state = state * 1664525 + 1013904223;
        const uint32_t byte = state >> 24;
        blocks += static_cast<char>(byte);
        for (const uint32_t code : {byte & 15, byte >> 4})
          out.values.push_back(std::ldexp(kTable[code], static_cast<int>(120 + b % 15) - 127));
      }
    }
    t.add_bytes({kExpertPrefix + name + "_blocks", "U8", {kExperts, rows, cols / 32, 16}, blocks});
    t.add_bytes({kExpertPrefix + name + "_scales", "U8", {kExperts, rows, cols / 32}, scales});
    return out;
  }

  const std::string kExpertPrefix = "model.layers.0.mlp.experts.";
  TestCheckpoint t;
};

TEST_F(GptOss, Mxfp4IsReorderedAndGateTakesTurnsWithUp) {
  const Array gate_up = add_mxfp4("gate_up_proj", 2 * kFf, kModel);
  const Array down = add_mxfp4("down_proj", kModel, kFf);
  for (const HfOutType type : {HfOutType::kAuto, HfOutType::kQ8_0}) {
    const HfCheckpoint c = t.open(type);
    EXPECT_EQ(find_tensor(c, "blk.0.ffn_gate_exps.weight")->dtype, DType::kMXFP4);
    expect_equal(c, "blk.0.ffn_gate_exps.weight", slice(gate_up, 1, 0, 2, kFf));
    expect_equal(c, "blk.0.ffn_up_exps.weight", slice(gate_up, 1, 1, 2, kFf));
    expect_equal(c, "blk.0.ffn_down_exps.weight", down);
  }
}

TEST_F(GptOss, BiasesAndSinksAreVectors) {
  add_mxfp4("gate_up_proj", 2 * kFf, kModel);
  add_mxfp4("down_proj", kModel, kFf);
  const HfCheckpoint c = t.open();
  const Array& bias = t[kExpertPrefix + "gate_up_proj_bias"];
  expect_equal(c, "blk.0.ffn_gate_exps.bias", slice(bias, 1, 0, 2, kFf));
  expect_equal(c, "blk.0.ffn_up_exps.bias", slice(bias, 1, 1, 2, kFf));
  expect_equal(c, "blk.0.ffn_down_exps.bias", t[kExpertPrefix + "down_proj_bias"]);
  expect_equal(c, "blk.0.attn_sinks.weight", t["model.layers.0.self_attn.sinks"]);
  for (const char* name : {"blk.0.ffn_gate_exps.bias", "blk.0.attn_sinks.weight"})
    EXPECT_EQ(find_tensor(c, name)->dtype, DType::kF32);
}

TEST_F(GptOss, UnpackedExpertsAreTransposed) {
  t.add(kExpertPrefix + "gate_up_proj", {kExperts, kModel, 2 * kFf});
  t.add(kExpertPrefix + "down_proj", {kExperts, kFf, kModel});
  const HfCheckpoint c = t.open();
  const Array gate_up = swap_last(t[kExpertPrefix + "gate_up_proj"]);
  expect_equal(c, "blk.0.ffn_gate_exps.weight", slice(gate_up, 1, 0, 2, kFf));
  expect_equal(c, "blk.0.ffn_up_exps.weight", slice(gate_up, 1, 1, 2, kFf));
  expect_equal(c, "blk.0.ffn_down_exps.weight", swap_last(t[kExpertPrefix + "down_proj"]));
}

TEST_F(GptOss, ScalesBelongToBlocks) {
  add_mxfp4("gate_up_proj", 2 * kFf, kModel);
  add_mxfp4("down_proj", kModel, kFf);
  t.remove(kExpertPrefix + "down_proj_scales");
  EXPECT_NE(error_of(t).find("down_proj_scales: expected beside"), std::string::npos)
      << error_of(t);
  t.add(kExpertPrefix + "down_proj_scales", {kExperts, kModel, kFf / 32}, "BF16");
  EXPECT_NE(error_of(t).find("down_proj_scales: expected U8, file has BF16"), std::string::npos);
}

}  // namespace
}  // namespace hob
