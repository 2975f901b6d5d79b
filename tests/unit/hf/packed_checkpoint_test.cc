// Checkpoints with quantised layers: found, checked, and read through the row maps of families.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "hf/open_model.h"
#include "unit/hf/packed_checkpoint_util.h"

namespace hob {
namespace {

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
  EXPECT_NE(std::ranges::adjacent_find(q.values, std::ranges::not_equal_to{}), q.values.end());
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

// Act-order: the blocks have their columns group by group, and a tensor beside them says which
// inputs these are.
TEST_F(PackedCheckpoint, OrdersAreBesideTheBlocks) {
  const std::string experts = "model.layers.0.block_sparse_moe.experts.";
  add_groups("model.layers.0.self_attn.q_proj", shuffled_groups());
  std::vector<int32_t> in_order;
  for (int k = 0; k < kWidth; k++) in_order.push_back(k / 32);
  add_groups("model.layers.0.self_attn.k_proj", in_order);
  add_groups(experts + "1.w2", shuffled_groups());  // of one of four experts
  t.write();
  const HfCheckpoint blocks = HfCheckpoint::open(t.dir(), HfOutType::kAuto, /*for_file=*/false);
  const HfCheckpoint floats = HfCheckpoint::open(t.dir(), HfOutType::kF32);
  EXPECT_EQ(find_tensor(blocks, "blk.0.attn_k.order"), nullptr);
  EXPECT_EQ(find_tensor(blocks, "blk.0.attn_v.order"), nullptr);
  for (const std::string name : {"blk.0.attn_q", "blk.0.ffn_down_exps"}) {
    EXPECT_EQ(find_tensor(floats, name + ".order"), nullptr);
    EXPECT_EQ(find_tensor(HfCheckpoint::open(t.dir()), name + ".order"), nullptr) << "a file";
    const Array order = read_array(blocks, name + ".order");
    const Array columns = read_array(blocks, name + ".weight");
    const Array plain = read_array(floats, name + ".weight");
    ASSERT_EQ(columns.shape, plain.shape);
    const auto n_experts = static_cast<int64_t>(order.values.size()) / kWidth;
    EXPECT_EQ(n_experts, name == "blk.0.attn_q" ? 1 : kExperts);
    for (int64_t row = 0; row < n_experts * kWidth; row++)
      for (int64_t k = 0; k < kWidth; k++) {
        const auto input =
            static_cast<int64_t>(order.values[static_cast<size_t>(row / kWidth * kWidth + k)]);
        ASSERT_EQ(columns.values[static_cast<size_t>(row * kWidth + k)],
                  plain.values[static_cast<size_t>(row * kWidth + input)])
            << name << " " << row << " " << k;
      }
    EXPECT_NE(columns, plain);
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
