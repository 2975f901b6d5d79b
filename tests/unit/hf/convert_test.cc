#include "hf/convert.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "format/gguf.h"
#include "unit/hf/checkpoint_util.h"

namespace hob {
namespace {

class HfConvert : public testing::Test {
 protected:
  HfConvert()
      : t(R"({"architectures":["Qwen3MoeForCausalLM"],"hidden_size":64,"num_hidden_layers":2,
          "vocab_size":10,"max_position_embeddings":128,"rms_norm_eps":1e-5,"rope_theta":10000,
          "num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"intermediate_size":96,
          "num_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":32})") {
    t.add_trunk(10, 64);
    for (int layer = 0; layer < 2; layer++) {
      t.add_attention(layer, 64, 64, 32);
      t.add_norms(layer, 64);
      const std::string prefix = fmt::format("model.layers.{}.", layer);
      t.add(prefix + "self_attn.q_norm.weight", {16});
      t.add(prefix + "self_attn.k_norm.weight", {16});
      t.add(prefix + "mlp.gate.weight", {4, 64});
      for (int e = 0; e < 4; e++) t.add_ffn(fmt::format("{}mlp.experts.{}.", prefix, e), 64, 32);
    }
    t.write(3);
  }

  TestCheckpoint t;
};

TEST_F(HfConvert, WritesWhatTheCheckpointSays) {
  const HfCheckpoint c = HfCheckpoint::open(t.dir());
  EXPECT_EQ(c.files().size(), 3u);
  const std::string path = t.folder().file("out.gguf");
  uint64_t last = 0, total = 0;
  write_gguf(c, path, [&](uint64_t done, uint64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
  });
  EXPECT_EQ(last, total);
  const ModelFile file = open_gguf(path);
  ASSERT_EQ(file.tensors().size(), c.tensors().size());
  const FileSource source(path);
  for (const HfTensor& tensor : c.tensors()) {
    const RawTensor* raw = file.find(tensor.name);
    ASSERT_NE(raw, nullptr);
    EXPECT_EQ(raw->dtype, tensor.dtype);
    EXPECT_EQ(raw->shape, tensor.shape);
    std::vector<std::byte> expected(raw->n_bytes), got(raw->n_bytes);
    c.read_rows(tensor, 0, tensor.shape.rows(), expected);
    source.read(raw->offset, got);
    EXPECT_EQ(got, expected) << tensor.name;
  }
}

TEST_F(HfConvert, KeysKeepTheirValuesInTheNarrowTypesOfFiles) {
  const HfCheckpoint c = HfCheckpoint::open(t.dir());
  const std::string path = t.folder().file("out.gguf");
  write_gguf(c, path, [](uint64_t, uint64_t) {});
  const ModelFile file = open_gguf(path);
  for (const auto& [key, value] : c.metadata().entries()) {
    if (std::holds_alternative<double>(value))
      EXPECT_EQ(file.metadata().get_float(key), static_cast<float>(std::get<double>(value)));
    else
      EXPECT_EQ(*file.metadata().find(key), value) << key;
  }
}

TEST_F(HfConvert, LeavesNothingBehindWhenStopped) {
  const HfCheckpoint c = HfCheckpoint::open(t.dir());
  const TempFolder out;
  EXPECT_THROW(write_gguf(c, out.file("m.gguf"),
                          [](uint64_t, uint64_t) { fail(Code::kCancelled, "[test] stopped"); }),
               Error);
  EXPECT_TRUE(std::filesystem::is_empty(out.path()));
}

}  // namespace
}  // namespace hob
