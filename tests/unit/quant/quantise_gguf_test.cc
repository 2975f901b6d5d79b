#include "quant/quantise_gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "base/error.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "quant/resumable_file.h"
#include "unit/format/temp_folder.h"

namespace hob {
namespace {

struct Added {
  std::string name;
  Shape shape;
};

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class QuantiseGguf : public ::testing::Test {
 protected:
  static std::vector<Added> tensors() {
    std::vector<Added> out = {{"token_embd.weight", {64, 256}},
                              {"output.weight", {64, 256}},
                              {"output_norm.weight", {256}}};
    for (int layer = 0; layer < 8; layer++) {
      const std::string prefix = "blk." + std::to_string(layer) + ".";
      out.push_back({prefix + "attn_v.weight", {64, 256}});
      out.push_back({prefix + "ffn_gate_inp.weight", {4, 256}});
      out.push_back({prefix + "ffn_down_exps.weight", {4, 256, 96}});
      out.push_back({prefix + "ffn_up_exps.weight", {4, 96, 256}});
    }
    return out;
  }

  ModelFile write_model(float first = 0.5f) {
    GgufWriter writer;
    writer.set("general.architecture", std::string("llama"));
    writer.set("llama.block_count", uint32_t{8});
    writer.set("llama.expert_count", uint32_t{4});
    writer.set("split.count", uint16_t{1});
    for (const Added& t : tensors()) writer.add(t.name, DType::kF32, t.shape);
    writer.write(in_, [&](const GgufWriter::Tensor& t, const GgufWriter::Sink& sink) {
      std::vector<float> values(t.n_bytes / sizeof(float));
      for (size_t i = 0; i < values.size(); i++)
        values[i] = std::sin(static_cast<float>(i * i % 997)) * 0.1f;
      values[0] = first;
      sink(std::as_bytes(std::span(values)));
    });
    return open_gguf(in_);
  }

  static std::vector<QuantStep> plan(const ModelFile& model, const char* type,
                                     QuantPlanOptions options = {}) {
    options.type = &find_file_type(type);
    return plan_quantisation(model, options);
  }
  static DType type_of(const std::vector<QuantStep>& steps, std::string_view name) {
    for (const QuantStep& step : steps)
      if (step.tensor->name == name) return step.to;
    ADD_FAILURE() << name;
    return DType::kF32;
  }

  // Stops before piece `stop_at`, as Ctrl-C does.
  QuantiseResult quantise(const ModelFile& model, const char* type, const std::string& out,
                          int stop_at = -1, int n_threads = 2) {
    ThreadPool pool(n_threads);
    int calls = 0;
    return quantise_gguf(model, find_file_type(type), plan(model, type), nullptr, out, pool,
                         [&](uint64_t, uint64_t, uint64_t) {
                           if (calls++ == stop_at) fail(Code::kCancelled, "[test] stop");
                         });
  }

  TempFolder folder_;
  std::string in_ = folder_.file("in.gguf"), out_ = folder_.file("out.gguf");
};

TEST_F(QuantiseGguf, MixtureFallbackAndWhatIsKept) {
  const ModelFile model = write_model();
  const auto medium = plan(model, "q4_k");
  EXPECT_EQ(type_of(medium, "token_embd.weight"), DType::kQ4_K);
  EXPECT_EQ(type_of(medium, "output.weight"), DType::kQ6_K);
  EXPECT_EQ(type_of(medium, "output_norm.weight"), DType::kF32);
  EXPECT_EQ(type_of(medium, "blk.3.ffn_gate_inp.weight"), DType::kF32);
  EXPECT_EQ(type_of(medium, "blk.0.attn_v.weight"), DType::kQ6_K);
  EXPECT_EQ(type_of(medium, "blk.1.attn_v.weight"), DType::kQ4_K);
  EXPECT_EQ(type_of(medium, "blk.7.attn_v.weight"), DType::kQ6_K);
  EXPECT_EQ(type_of(medium, "blk.0.ffn_down_exps.weight"), DType::kQ8_0);  // Q6_K, rows of 96
  EXPECT_EQ(type_of(medium, "blk.1.ffn_down_exps.weight"), DType::kQ5_0);  // Q4_K, rows of 96
  EXPECT_EQ(type_of(medium, "blk.1.ffn_up_exps.weight"), DType::kQ4_K);
  const auto small = plan(model, "Q4_K_S");
  EXPECT_EQ(type_of(small, "blk.3.attn_v.weight"), DType::kQ5_K);
  EXPECT_EQ(type_of(small, "blk.4.attn_v.weight"), DType::kQ4_K);
  const auto experts = plan(model, "MXFP4_MOE");
  EXPECT_EQ(type_of(experts, "blk.4.ffn_up_exps.weight"), DType::kMXFP4);
  EXPECT_EQ(type_of(experts, "blk.4.attn_v.weight"), DType::kQ8_0);
}

TEST_F(QuantiseGguf, OptionsComeBeforeTheMixture) {
  const ModelFile model = write_model();
  QuantPlanOptions o;
  o.tensor_types = {{"blk\\.[12]\\..*_exps", DType::kQ2_K}, {"attn_v", DType::kQ8_0}};
  o.output_type = DType::kF16;
  const auto steps = plan(model, "Q6_K", o);
  EXPECT_EQ(type_of(steps, "blk.2.ffn_up_exps.weight"), DType::kQ2_K);
  EXPECT_EQ(type_of(steps, "blk.3.ffn_up_exps.weight"), DType::kQ6_K);
  EXPECT_EQ(type_of(steps, "blk.3.attn_v.weight"), DType::kQ8_0);
  EXPECT_EQ(type_of(steps, "output.weight"), DType::kF16);
  for (const char* bad : {"(", "nothing_has_this_name"}) {
    o.tensor_types = {{bad, DType::kQ8_0}};
    EXPECT_THROW(plan(model, "Q6_K", o), Error) << bad;
  }
  EXPECT_THROW(find_file_type("Q9_K"), Error);
  EXPECT_THROW(parse_tensor_type("Q2_1"), Error);  // hob's own, not GGUF's
}

TEST_F(QuantiseGguf, ThreadsDoNotChangeBytes) {
  const ModelFile model = write_model();
  quantise(model, "Q4_K_M", out_, -1, 1);
  quantise(model, "Q4_K_M", folder_.file("other.gguf"), -1, 3);
  EXPECT_EQ(content(out_), content(folder_.file("other.gguf")));
  const ModelFile made = open_gguf(out_);
  EXPECT_EQ(made.metadata().get_uint("general.file_type"), 15u);
  EXPECT_EQ(made.metadata().get_uint("general.quantization_version"), 2u);
  EXPECT_FALSE(made.metadata().has("split.count"));
}

TEST_F(QuantiseGguf, InterruptedAtAnyPieceGivesTheSameBytes) {
  const ModelFile model = write_model();
  quantise(model, "Q5_K_M", folder_.file("whole.gguf"));
  for (int stop_at = 0; stop_at < 35; stop_at += 6) {
    EXPECT_THROW(quantise(model, "Q5_K_M", out_, stop_at), Error);
    EXPECT_FALSE(std::filesystem::exists(out_));
    EXPECT_NE(content(out_ + ".partial").substr(0, 4), "GGUF");
    const QuantiseResult result = quantise(model, "Q5_K_M", out_);
    EXPECT_EQ(result.bytes_resumed > 0, stop_at > 0);
    EXPECT_EQ(content(out_), content(folder_.file("whole.gguf")));
    EXPECT_FALSE(std::filesystem::exists(out_ + ".partial"));
    EXPECT_FALSE(std::filesystem::exists(out_ + ".partial.journal"));
    std::filesystem::remove(out_);
  }
}

TEST_F(QuantiseGguf, DamagedOrForeignPiecesAreWrittenAgain) {
  const ModelFile model = write_model();
  quantise(model, "Q5_K_M", folder_.file("whole.gguf"));
  EXPECT_THROW(quantise(model, "Q5_K_M", out_, 20), Error);
  {  // in the middle of what had been written
    std::fstream file(out_ + ".partial", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(60000);
    file << "damage";
  }
  quantise(model, "Q5_K_M", out_);
  EXPECT_EQ(content(out_), content(folder_.file("whole.gguf")));
  std::filesystem::remove(out_);

  EXPECT_THROW(quantise(model, "Q8_0", out_, 20), Error);
  const QuantiseResult result = quantise(model, "Q5_K_M", out_);
  EXPECT_TRUE(result.discarded);
  EXPECT_EQ(result.bytes_resumed, 0u);
  EXPECT_EQ(content(out_), content(folder_.file("whole.gguf")));
}

TEST_F(QuantiseGguf, ChangedWeightsAreNoticed) {
  const ModelFile model = write_model();
  EXPECT_THROW(quantise(model, "Q8_0", out_, 20), Error);
  const ModelFile other = write_model(0.25f);
  EXPECT_TRUE(quantise(other, "Q8_0", out_).discarded);
}

TEST_F(QuantiseGguf, WeightsThatAreNotFiniteAreRefused) {
  const ModelFile model = write_model(std::numeric_limits<float>::quiet_NaN());
  try {
    quantise(model, "Q8_0", out_);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kDataLoss);
    EXPECT_NE(std::string(e.what()).find("token_embd.weight"), std::string::npos);
  }
}

class Importance : public QuantiseGguf {
 protected:
  void write_matrix(int64_t n_cols, float value, std::string counts = "counts") {
    GgufWriter writer;
    writer.set("general.type", std::string("imatrix"));
    const std::string name = "blk.1.ffn_up_exps.weight.";
    writer.add(name + "in_sum2", DType::kF32, {4, n_cols});
    writer.add(name + counts, DType::kF32, {4, 1});
    writer.write(matrix_, [&](const GgufWriter::Tensor& t, const GgufWriter::Sink& sink) {
      std::vector<float> values(t.n_bytes / sizeof(float), value);
      if (t.shape.cols() == 1) values = {2, 0, 4, 8};
      sink(std::as_bytes(std::span(values)));
    });
  }
  std::string matrix_ = folder_.file("imatrix.gguf");
};

TEST_F(Importance, IsPerExpert) {
  const ModelFile model = write_model();
  write_matrix(256, 8);
  const ImportanceMatrix matrix = ImportanceMatrix::open(matrix_);
  const RawTensor& tensor = *model.find("blk.1.ffn_up_exps.weight");
  EXPECT_EQ(matrix.find(tensor, 0)[255], 4);
  EXPECT_EQ(matrix.find(tensor, 1), nullptr);  // never chosen
  EXPECT_EQ(matrix.find(tensor, 3)[0], 1);
  EXPECT_EQ(matrix.find(*model.find("blk.2.ffn_up_exps.weight"), 0), nullptr);
}

TEST_F(Importance, NonsenseIsRefused) {
  const ModelFile model = write_model();
  EXPECT_THROW(ImportanceMatrix::open(in_), Error);  // a model
  write_matrix(256, -1);
  EXPECT_THROW(ImportanceMatrix::open(matrix_), Error);
  write_matrix(256, 1, "other");
  EXPECT_THROW(ImportanceMatrix::open(matrix_), Error);
  write_matrix(128, 1);
  const ImportanceMatrix matrix = ImportanceMatrix::open(matrix_);
  EXPECT_THROW(matrix.find(*model.find("blk.1.ffn_up_exps.weight"), 0), Error);
}

}  // namespace
}  // namespace hob
