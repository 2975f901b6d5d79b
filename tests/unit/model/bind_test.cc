#include "model/bind.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "format/gguf.h"
#include "unit/model/metadata_util.h"
#include "unit/model/model_checks_util.h"
#include "unit/model/naive_backend_util.h"

namespace hob {
namespace {

RawTensor& find(std::vector<RawTensor>& tensors, const std::string& name) {
  for (RawTensor& t : tensors)
    if (t.name == name) return t;
  throw std::out_of_range(name);
}

std::string bind_error(const Metadata& m, const std::vector<RawTensor>& tensors) {
  try {
    bind_tensors(read_spec(m, tensors), tensors);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Bind, EveryMissingTensorIsNamed) {
  for (const char* arch : {"llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "olmoe"}) {
    const Metadata m = valid_metadata(arch);
    const std::vector<RawTensor> all = valid_tensors(m);
    for (size_t i = 0; i < all.size(); i++) {
      // Without these the file is another, valid model: tied embeddings, no frequency divisors.
      if (all[i].name == "output.weight" || all[i].name == "rope_freqs.weight") continue;
      std::vector<RawTensor> rest = all;
      rest.erase(rest.begin() + static_cast<ptrdiff_t>(i));
      const std::string error = bind_error(m, rest);
      EXPECT_NE(error.find(all[i].name), std::string::npos) << arch << ": " << error;
    }
  }
}

TEST(Bind, EveryMisshapenTensorIsNamed) {
  for (const char* arch : {"llama", "qwen2moe"}) {
    const Metadata m = valid_metadata(arch);
    const std::vector<RawTensor> all = valid_tensors(m);
    for (size_t i = 0; i < all.size(); i++)
      for (int d = 0; d < all[i].shape.n_dims; d++) {
        std::vector<RawTensor> bent = all;
        bent[i].shape.dim[static_cast<size_t>(d)] += 4;
        const std::string error = bind_error(m, bent);
        EXPECT_NE(error.find(all[i].name), std::string::npos) << error;
        EXPECT_NE(error.find(bent[i].shape.str()), std::string::npos) << error;
      }
  }
}

TEST(Bind, MessageNamesBothShapes) {
  const Metadata m = valid_metadata("olmoe");
  std::vector<RawTensor> tensors = valid_tensors(m);
  find(tensors, "blk.1.ffn_gate_exps.weight").shape = {5, 48, 32};
  EXPECT_EQ(bind_error(m, tensors),
            "[model] blk.1.ffn_gate_exps.weight: expected [6,48,32], file has [5,48,32]");
}

TEST(Bind, UnusedTensorsAreListed) {
  const Metadata m = valid_metadata("llama");
  std::vector<RawTensor> tensors = valid_tensors(m);
  for (int i = 0; i < 9; i++)
    tensors.push_back({"blk." + std::to_string(i) + ".mystery.weight", DType::kF32, {4}, 0, 0, 16});
  const std::string error = bind_error(m, tensors);
  EXPECT_NE(error.find("blk.0.mystery.weight, blk.1.mystery.weight"), std::string::npos) << error;
  EXPECT_NE(error.find("9 more"), std::string::npos) << error;
  EXPECT_LT(error.size(), 300u);
}

TEST(Bind, OneTensorPerExpertIsExplained) {
  const Metadata m = valid_metadata("llama");
  std::vector<RawTensor> tensors = valid_tensors(m);
  tensors.push_back({"blk.0.ffn_gate.3.weight", DType::kF32, {48, 32}, 0, 0, 48 * 32 * 4});
  const std::string error = bind_error(m, tensors);
  EXPECT_NE(error.find("blk.0.ffn_gate.3.weight"), std::string::npos) << error;
  EXPECT_NE(error.find("ffn_*_exps"), std::string::npos) << error;
}

TEST(Bind, LeadingDimensionOfOneIsTheSameTensor) {
  const Metadata m = valid_metadata("qwen2moe");
  std::vector<RawTensor> tensors = valid_tensors(m);
  find(tensors, "blk.0.ffn_gate_inp_shexp.weight").shape = {32};
  find(tensors, "blk.1.attn_q.bias").shape = {1, 32};
  EXPECT_EQ(bind_error(m, tensors), "");
}

TEST(Bind, OptionalBiasesAreAllOrNothing) {
  const Metadata m = valid_metadata("llama");
  std::vector<RawTensor> tensors = valid_tensors(m);
  tensors.push_back({"blk.0.attn_q.bias", DType::kF32, {32}, 0, 0, 128});
  EXPECT_NE(bind_error(m, tensors).find("blk.0.attn_k.bias"), std::string::npos);
}

TEST(BindLayout, SizesAndExperts) {
  const ModelFile file = open_gguf(find_logits_fixture("olmoe") + ".gguf");
  const std::unique_ptr<Backend> backend = make_naive_backend();
  const ModelLayout layout = bind_layout(file, *backend);
  uint64_t dense = 0, experts = 0;
  for (const RawTensor& t : file.tensors())
    (t.name.find("_exps") == std::string::npos ? dense : experts) += t.n_bytes;
  EXPECT_EQ(layout.dense_bytes, dense);  // every tensor of this file is a multiple of 64 bytes
  EXPECT_EQ(layout.dense_read_bytes, dense - file.find("token_embd.weight")->n_bytes);
  EXPECT_EQ(ExpertCache::total_bytes(layout.experts, *backend), experts);
  ASSERT_EQ(layout.experts.layers.size(), 2u);
  const ExpertMatrix& down = layout.experts.layers[1].parts[kDown];
  const RawTensor* raw = file.find("blk.1.ffn_down_exps.weight");
  EXPECT_EQ(down.rows, raw->shape[1]);
  EXPECT_EQ(down.cols, raw->shape[2]);
  EXPECT_EQ(down.offset, raw->offset);
  EXPECT_EQ(down.bytes_per_expert * static_cast<uint64_t>(raw->shape[0]), raw->n_bytes);
  EXPECT_EQ(layout.kv(KvType::kF16).layers.size(), 2u);
  EXPECT_EQ(layout.kv(KvType::kF16).bytes_per_token(),
            2u * 2 * 64 * 2);  // layers, K and V, width, bytes
}

TEST(BindLayout, EveryWeightHasItsPlaceInTheWork) {
  const std::unique_ptr<Backend> backend = make_naive_backend();
  for (const char* name : {"olmoe", "qwen2moe", "llama_linear_tied", "qwen2_small"}) {
    const ModelFile file =
        open_gguf(std::string(HOB_TEST_DATA) + "/model/" + name + std::string(".gguf"));
    const ModelLayout layout = bind_layout(file, *backend);
    const ModelSpec& s = layout.spec;
    ASSERT_EQ(layout.work.size(), static_cast<size_t>(s.n_layers));
    uint64_t dense = layout.head.bytes;
    for (const LayerWork& l : layout.work) {
      dense += l.qkv.bytes + l.o.bytes + l.ffn.bytes + l.router.bytes;
      EXPECT_EQ(l.o.n_float + l.o.n_quantised,
                static_cast<uint64_t>(s.d_model * s.attn.n_heads * s.attn.d_v));
      EXPECT_EQ(l.expert.n_float + l.expert.n_quantised,
                static_cast<uint64_t>(3 * s.d_model * s.moe.d_expert));
      EXPECT_EQ(l.router.bytes > 0, s.is_moe());
    }
    // Up to the padding between tensors.
    EXPECT_LE(dense, layout.dense_read_bytes) << name;
    EXPECT_GT(dense + 64 * file.tensors().size(), layout.dense_read_bytes) << name;
    EXPECT_EQ(layout.head.n_float + layout.head.n_quantised,
              static_cast<uint64_t>(s.d_model) * static_cast<uint64_t>(s.n_vocab));
  }
}

TEST(BindLayout, TiedEmbeddingsAreReadWhole) {
  const ModelFile file = open_gguf(HOB_TEST_DATA "/model/llama_linear_tied.gguf");
  const ModelLayout layout = bind_layout(file, *make_naive_backend());
  EXPECT_TRUE(layout.spec.tied_embeddings);
  EXPECT_EQ(layout.dense_read_bytes, layout.dense_bytes);
  EXPECT_TRUE(layout.experts.layers[0].n_experts == 0);
}

}  // namespace
}  // namespace hob
