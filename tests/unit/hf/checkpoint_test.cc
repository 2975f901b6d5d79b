// Strictness: everything must be there, have its shape, and be used.
#include <gtest/gtest.h>

#include "base/error.h"
#include "unit/hf/checkpoint_util.h"

namespace hob {
namespace {

class HfCheckpointTest : public testing::Test {
 protected:
  HfCheckpointTest() : t(config("")) {
    t.add_trunk(10, 64);
    t.add_attention(0, 64, 64, 64);
    t.add_norms(0, 64);
    t.add(kMoe + "gate.weight", {3, 64});
    for (int e = 0; e < 3; e++) {
      t.add(fmt::format("{}experts.{}.w1.weight", kMoe, e), {32, 64});
      t.add(fmt::format("{}experts.{}.w2.weight", kMoe, e), {64, 32});
      t.add(fmt::format("{}experts.{}.w3.weight", kMoe, e), {32, 64});
    }
  }
  static std::string config(const std::string& more) {
    return R"({"architectures":["MixtralForCausalLM"],"hidden_size":64,"num_hidden_layers":1,
      "vocab_size":10,"max_position_embeddings":128,"rms_norm_eps":1e-5,"num_attention_heads":4,
      "intermediate_size":32,"num_local_experts":3,"num_experts_per_tok":2)" +
           more + "}";
  }
  void expect_error(const std::string& part) const {
    const std::string error = error_of(t);
    EXPECT_NE(error.find(part), std::string::npos) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }

  const std::string kMoe = "model.layers.0.block_sparse_moe.";
  TestCheckpoint t;
};

TEST_F(HfCheckpointTest, IsSound) { EXPECT_EQ(error_of(t), ""); }

TEST_F(HfCheckpointTest, MissingTensorIsNamed) {
  t.remove("model.layers.0.self_attn.k_proj.weight");
  expect_error(
      "[hf] model.layers.0.self_attn.k_proj.weight: expected in the checkpoint, there is none");
}

TEST_F(HfCheckpointTest, MissingExpertIsNamed) {
  t.remove(kMoe + "experts.2.w3.weight");
  expect_error("experts.2.w3.weight: expected 3 experts in the layer, this one is missing");
}

TEST_F(HfCheckpointTest, MissingFirstExpertIsNamed) {
  t.remove(kMoe + "experts.0.w3.weight");
  expect_error("experts.0.w3.weight: expected in the checkpoint, there is none");
}

TEST_F(HfCheckpointTest, LeftOverTensorsAreNamed) {
  t.add("model.layers.1.input_layernorm.weight", {64});
  for (int i = 0; i < 5; i++) t.add(fmt::format("extra.{}", i), {2});
  expect_error("expected only tensors that the model uses, the checkpoint has 6 more");
  expect_error("extra.0, extra.1, extra.2");
}

TEST_F(HfCheckpointTest, OneExpertTooManyIsNamed) {
  t.add(kMoe + "experts.3.w1.weight", {32, 64});
  expect_error("experts.3.w1.weight: expected only tensors that the model uses");
}

TEST_F(HfCheckpointTest, WrongShapeIsNamed) {
  t.remove("model.norm.weight");
  t.add("model.norm.weight", {63});
  expect_error("[hf] model.norm.weight: expected [64] (config.json), file has [63]");
}

TEST_F(HfCheckpointTest, WrongShapeOfOneExpertIsNamed) {
  t.remove(kMoe + "experts.1.w2.weight");
  t.add(kMoe + "experts.1.w2.weight", {32, 64});
  expect_error("experts.1.w2.weight: expected [64,32] (config.json), file has [32,64]");
}

TEST_F(HfCheckpointTest, TypeWithoutAMeaningIsNamed) {
  t.remove("model.norm.weight");
  t.add_bytes({"model.norm.weight", "F8_E4M3", {64}, std::string(64, '8')});
  expect_error("model.norm.weight: expected F32, F16 or BF16, file has F8_E4M3");
}

TEST_F(HfCheckpointTest, ExpertsOfDifferentTypesAreRefused) {
  t.remove(kMoe + "experts.1.w2.weight");
  t.add(kMoe + "experts.1.w2.weight", {64, 32}, "F32");
  expect_error("experts.1.w2.weight: expected BF16 as expert 0, file has F32");
}

TEST_F(HfCheckpointTest, OneTensorUnderTwoNamesIsRefused) {
  t.add("language_model.model.norm.weight", {64});
  expect_error("model.norm.weight: expected once, the checkpoint has it twice");
}

TEST_F(HfCheckpointTest, HeadMayBeMissingUnlessTheConfigWantsIt) {
  t.remove("lm_head.weight");
  EXPECT_EQ(error_of(t), "");
  t.set_config(config(R"(,"tie_word_embeddings":false)"));
  expect_error("lm_head.weight: expected in the checkpoint, there is none");
}

TEST_F(HfCheckpointTest, ConfigMustBeThere) {
  t.set_config("");
  expect_error("config.json: cannot open");
}

TEST_F(HfCheckpointTest, WithoutTokenizerThereIsNoVocabulary) {
  const HfCheckpoint c = t.open();
  EXPECT_EQ(c.metadata().get_string("tokenizer.ggml.model"), "none");
  EXPECT_EQ(c.metadata().get_uint("llama.vocab_size"), 10u);
}

TEST_F(HfCheckpointTest, ReadsOnlyTheRowsItIsAskedFor) {
  const HfCheckpoint c = t.open();
  const HfTensor& tensor = *find_tensor(c, "blk.0.ffn_down_exps.weight");
  std::vector<std::byte> all(192 * tensor.row_bytes()), part(70 * tensor.row_bytes());
  c.read_rows(tensor, 0, 192, all);
  c.read_rows(tensor, 60, 70, part);  // from the first expert to the third
  EXPECT_TRUE(std::equal(part.begin(), part.end(),
                         all.begin() + 60 * static_cast<long>(tensor.row_bytes())));
}

// Reads rows of a tensor from where find_hf_rows() says they are.
std::vector<std::byte> read_place(const HfCheckpoint& c, const HfTensor& tensor, int64_t first,
                                  int64_t n) {
  std::vector<std::byte> bytes(static_cast<uint64_t>(n) * tensor.row_bytes());
  const std::optional<HfPlace> place = find_hf_rows(tensor, first, n);
  if (!place) return {};
  FileSource(c.files()[static_cast<size_t>(place->file)]).read(place->offset, bytes);
  return bytes;
}

TEST_F(HfCheckpointTest, ExpertsLieInTheFilesAsTheyAre) {
  const HfCheckpoint c = t.open();
  for (const char* name : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_down_exps.weight"}) {
    const HfTensor& tensor = *find_tensor(c, name);
    const int64_t rows = tensor.shape[1];
    for (int64_t e = 0; e < 3; e++) {
      std::vector<std::byte> expected(static_cast<uint64_t>(rows) * tensor.row_bytes());
      c.read_rows(tensor, e * rows, rows, expected);
      EXPECT_EQ(read_place(c, tensor, e * rows, rows), expected) << name << " " << e;
    }
    EXPECT_EQ(find_hf_rows(tensor, rows - 1, 2), std::nullopt);  // of two experts
  }
}

TEST_F(HfCheckpointTest, WhatIsTransformedLiesNowhere) {
  const HfCheckpoint c = t.open(), f16 = t.open(HfOutType::kF16);
  EXPECT_EQ(find_hf_rows(*find_tensor(c, "blk.0.attn_q.weight"), 0, 1), std::nullopt);
  EXPECT_EQ(find_hf_rows(*find_tensor(c, "output_norm.weight"), 0, 1), std::nullopt);
  EXPECT_NE(find_hf_rows(*find_tensor(c, "blk.0.attn_v.weight"), 3, 60), std::nullopt);
  EXPECT_EQ(find_hf_rows(*find_tensor(f16, "blk.0.attn_v.weight"), 3, 60), std::nullopt);
}

}  // namespace
}  // namespace hob
