// Checkpoints with quantised layers: found, checked, and read through the row maps of families.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "hf/open_model.h"
#include "unit/hf/checkpoint_util.h"

namespace hob {
namespace {

constexpr int64_t kWidth = 64, kGroups = 2;

class PackedCheckpoint : public testing::Test {
 protected:
  explicit PackedCheckpoint(const std::string& quantisation = R"({"quant_method":"gptq","bits":4,
      "group_size":32,"desc_act":false,"sym":false,"checkpoint_format":"gptq"})")
      : t(fmt::format(R"({{"architectures":["MixtralForCausalLM"],"hidden_size":64,
          "num_hidden_layers":1,"vocab_size":10,"max_position_embeddings":128,"rms_norm_eps":1e-5,
          "rope_theta":10000,"num_attention_heads":4,"num_key_value_heads":4,"head_dim":16,
          "intermediate_size":64,"num_local_experts":2,"num_experts_per_tok":1,
          "quantization_config":{}}})",
                      quantisation)) {
    t.add_trunk(10, kWidth);
    t.add_norms(0, kWidth);
    t.add("model.layers.0.block_sparse_moe.gate.weight", {2, kWidth});
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"})
      add_packed(fmt::format("model.layers.0.self_attn.{}", name));
    for (int e = 0; e < 2; e++)
      for (const char* name : {"w1", "w2", "w3"})
        add_packed(fmt::format("model.layers.0.block_sparse_moe.experts.{}.{}", e, name));
  }

  // [64, 64], random.
  void add_packed(const std::string& base) {
    const auto random = [&](size_t n_bytes) {
      std::string bytes(n_bytes, 0);
      for (char& b : bytes) b = static_cast<char>(rng() & 0xff);
      return bytes;
    };
    std::string scales;
    for (int i = 0; i < kGroups * kWidth; i++) scales += {static_cast<char>(rng() & 0xff), 0x2c};
    t.add_bytes({base + ".qweight", "I32", {kWidth / 8, kWidth}, random(kWidth * kWidth / 2)});
    t.add_bytes({base + ".qzeros", "I32", {kGroups, kWidth / 8}, random(kGroups * kWidth / 2)});
    t.add_bytes({base + ".scales", "F16", {kGroups, kWidth}, scales});
  }

  TestCheckpoint t;
  std::mt19937 rng{3};
};

TEST_F(PackedCheckpoint, KeepsItsCodes) {
  t.write();
  const HfCheckpoint c = HfCheckpoint::open(t.dir(), HfOutType::kAuto, /*for_file=*/false);
  for (const char* name : {"blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"}) {
    ASSERT_NE(find_tensor(c, name), nullptr);
    EXPECT_EQ(find_tensor(c, name)->dtype, DType::kG4) << name;
  }
  EXPECT_EQ(find_tensor(c, "blk.0.ffn_gate_inp.weight")->dtype, DType::kF32);
  const HfCheckpoint file = HfCheckpoint::open(t.dir());
  EXPECT_TRUE(file.unpacked());
  EXPECT_EQ(find_tensor(file, "blk.0.attn_q.weight")->dtype, DType::kF16);
}

// As blocks, and as numbers: two ways through the same maps (q's rows are permuted, experts
// stacked).
TEST_F(PackedCheckpoint, BlocksAreTheNumbers) {
  t.write();
  const HfCheckpoint blocks = HfCheckpoint::open(t.dir(), HfOutType::kAuto, /*for_file=*/false);
  const HfCheckpoint floats = HfCheckpoint::open(t.dir(), HfOutType::kF32);
  for (const HfTensor& tensor : blocks.tensors())
    EXPECT_EQ(read_array(blocks, tensor.name), read_array(floats, tensor.name)) << tensor.name;
  const Array q = read_array(floats, "blk.0.attn_q.weight");
  EXPECT_NE(q.values[0], q.values[1]);
}

// What the loader does: it reads the ranges and has the rows made.
TEST_F(PackedCheckpoint, RowsAreMadeOfTheirRanges) {
  t.write(3);
  const HfCheckpoint c = HfCheckpoint::open(t.dir(), HfOutType::kAuto, /*for_file=*/false);
  const ModelFile model = open_model_file(t.dir());
  for (const RawTensor& raw : model.tensors()) {
    if (raw.file != kMadeTensor) continue;
    const auto tensor = static_cast<size_t>(raw.offset);
    const int64_t n = raw.shape.n_dims < 2 ? 1 : raw.shape[raw.shape.n_dims - 2];  // of one expert
    for (int64_t first = 0; first < raw.shape.rows(); first += n) {
      std::vector<std::string> bytes;
      std::vector<const std::byte*> read;
      for (const ByteRange& r : model.maker()->ranges(tensor, first, n)) {
        bytes.emplace_back(r.n_bytes, 0);
        FileSource(model.files()[static_cast<size_t>(r.file)])
            .read(r.offset, std::as_writable_bytes(std::span(bytes.back())));
      }
      for (const std::string& b : bytes)
        read.push_back(reinterpret_cast<const std::byte*>(b.data()));
      std::vector<std::byte> made(static_cast<size_t>(n) * row_bytes(raw.dtype, raw.shape.cols()));
      std::vector<std::byte> expected(made.size());
      model.maker()->make(tensor, first, n, read, made.data());
      c.read_rows(*find_tensor(c, raw.name), first, n, expected);
      EXPECT_EQ(made, expected) << raw.name;
    }
  }
}

TEST_F(PackedCheckpoint, FaultsAreNamed) {
  const std::string q = "model.layers.0.self_attn.q_proj";
  t.remove(q + ".qzeros");
  EXPECT_NE(error_of(t).find(q + ".qzeros: expected beside the layer's codes"), std::string::npos);
  t.add_bytes({q + ".qzeros", "I32", {1, 8}, std::string(32, 0)});
  EXPECT_NE(error_of(t).find(q + ".qzeros: expected [2,8]"), std::string::npos);
  t.remove(q + ".qzeros");
  t.add_bytes({q + ".qzeros", "F32", {2, 8}, std::string(64, 0)});
  EXPECT_NE(error_of(t).find(q + ".qzeros: expected I32, file has F32"), std::string::npos);
}

TEST_F(PackedCheckpoint, ZeroBiasesOfGptqsToolsAreNone) {
  const std::string bias = "model.layers.0.block_sparse_moe.experts.0.w1.bias";
  t.add_bytes({bias, "F16", {kWidth}, std::string(2 * kWidth, 0)});
  EXPECT_EQ(error_of(t), "");
  t.remove(bias);
  t.add_bytes({bias, "F16", {kWidth}, std::string(2 * kWidth, 1)});
  EXPECT_NE(error_of(t).find(bias), std::string::npos);
}

}  // namespace
}  // namespace hob
