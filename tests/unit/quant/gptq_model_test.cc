#include "quant/gptq_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/error.h"
#include "engine/observed_run.h"
#include "format/gguf.h"
#include "quant/calibration_names.h"
#include "quant/calibration_weights.h"

namespace hob {
namespace {

std::string model_path(const std::string& name) {
  return std::string(HOB_TEST_DATA) + "/model/" + name;
}

std::unique_ptr<ModelSession> open(const std::string& path) {
  SessionOptions options;
  options.path = path;
  options.n_threads = 2;
  options.n_ctx = 128;
  options.pack = "none";
  options.max_logit_rows = kCalibrationRows;
  return ModelSession::load(plan_model(options), {});
}

std::vector<int32_t> some_tokens(int n, int step) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < n; i++) tokens.push_back((11 + step * i + i * i % 13) % 300);
  return tokens;
}

std::vector<float> logits_of(const std::string& path) {
  const std::unique_ptr<ModelSession> session = open(path);
  const std::vector<int32_t> tokens = some_tokens(64, 7);
  Engine& engine = session->engine();
  const int seq = engine.open();
  engine.feed(seq, tokens, static_cast<int>(tokens.size()));
  std::vector<float> all;
  while (engine.step([&](int, int, std::span<const float> row) {
    all.insert(all.end(), row.begin(), row.end());
  })) {
  }
  return all;
}

// Mean square difference, relative to the variance of the first.
double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, mean = 0, square = 0;
  for (size_t i = 0; i < a.size(); i++) {
    const double x = static_cast<double>(a[i]), d = x - static_cast<double>(b[i]);
    error += d * d;
    mean += x / static_cast<double>(a.size());
    square += x * x;
  }
  return error / (square - mean * mean * static_cast<double>(a.size()));
}

class GptqModel : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    dir_ = std::filesystem::temp_directory_path() / ("hob_quant_" + std::string(test->name()));
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  QuantiseReport quantise(const std::string& in, const std::string& out, QuantiseOptions options,
                          int n_tok = 512) {
    options.out = path(out);
    const std::unique_ptr<ModelSession> session = open(in);
    ThreadPool pool(2);
    return quantise_model(*session, some_tokens(n_tok, 3), options, pool,
                          [](std::string_view, uint64_t, uint64_t) {});
  }
  std::string path(const std::string& name) const { return (dir_ / name).string(); }
  std::string bytes_of(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  double error_of(const std::string& model, QuantMethod method, int bits) {
    QuantiseOptions options{.out = {}, .method = method, .gptq = {}, .as_f32 = true};
    options.gptq.grid.bits = bits;
    quantise(model, "x.gguf", options, 2048);
    return relative_error(logits_of(model), logits_of(path("x.gguf")));
  }

 private:
  std::filesystem::path dir_;
};

TEST_F(GptqModel, OutputIsCloserThanByRounding) {
  // Random weights: inputs hardly correlate, and where the error sends rows to other experts, that
  // hides much of what is gained.
  const std::pair<const char*, double> bars[] = {
      {"olmoe.gguf", 0.95}, {"qwen2moe.gguf", 1.0}, {"llama.gguf", 0.95}};
  for (const auto& [name, bar] : bars) {
    const double rtn = error_of(model_path(name), QuantMethod::kRtn, 3);
    EXPECT_GT(rtn, 0) << name;
    EXPECT_LT(error_of(model_path(name), QuantMethod::kGptq, 3), bar * rtn) << name;
  }
}

TEST_F(GptqModel, NamedTypesAndTheFoldsInThem) {
  const std::string model = model_path("olmoe.gguf");
  for (const QuantMethod method : {QuantMethod::kGptq, QuantMethod::kAwq}) {
    QuantiseOptions options{.out = {}, .method = method, .gptq = {}, .as_f32 = false};
    options.gptq.grid = {.bits = 8, .group = 32, .kind = GridKind::kSymmetric};
    options.types = {{"blk.0.attn_q.weight", DType::kF32},       // excepted
                     {"blk.0.ffn_up_exps.weight", DType::kF16},  // no grid: rounded
                     {"blk.1.ffn_gate_exps.weight", DType::kF16},
                     {"blk.1.attn_k.weight", DType::kQ4_1},  // another grid
                     {"output.weight", DType::kQ8_0}};       // no layer's matrix: rounded
    const QuantiseReport report = quantise(model, "x.gguf", options);
    EXPECT_EQ(report.n_rounded, 4);
    const ModelFile made = open_gguf(path("x.gguf"));
    for (const auto& [name, type] : options.types) EXPECT_EQ(made.find(name)->dtype, type) << name;
    EXPECT_EQ(made.find("blk.1.attn_q.weight")->dtype, DType::kQ8_0);
    // All but one matrix are near the original: a fold that misses the rounded ones would show.
    EXPECT_LT(relative_error(logits_of(model), logits_of(path("x.gguf"))), 5e-2);
  }
}

// A scale that is folded into the wrong place, or not into all places, changes the function.
TEST_F(GptqModel, AwqFoldsLeaveTheFunction) {
  for (const char* name : {"olmoe.gguf", "qwen2moe.gguf", "llama.gguf"}) {
    EXPECT_LT(error_of(model_path(name), QuantMethod::kAwq, 8), 1e-2) << name;
    const ModelFile before = open_gguf(model_path(name)), after = open_gguf(path("x.gguf"));
    const auto norm = [](const ModelFile& file) {
      return WeightReader(file).values(*file.find("blk.0.ffn_norm.weight"), 0, 32);
    };
    EXPECT_NE(norm(before), norm(after)) << name << ": no scale was folded at all";
  }
}

TEST_F(GptqModel, BudgetChangesPassesButNotTheFile) {
  const std::string model = model_path("olmoe.gguf");
  const QuantiseReport one = quantise(model, "one.gguf", {.out = {}, .gptq = {}});
  const QuantiseReport many =
      quantise(model, "many.gguf", {.out = {}, .gptq = {}, .hessian_bytes = 1});
  EXPECT_EQ(one.n_passes, 1);
  EXPECT_GT(many.n_passes, 1);
  EXPECT_EQ(bytes_of("one.gguf"), bytes_of("many.gguf"));
  EXPECT_EQ(open_gguf(path("one.gguf")).find("blk.0.ffn_up_exps.weight")->dtype, DType::kQ4_1);
  EXPECT_LT(relative_error(logits_of(model), logits_of(path("one.gguf"))), 0.2);
}

TEST_F(GptqModel, SaysWhichExpertsSawTooLittle) {
  const QuantiseReport r =
      quantise(model_path("olmoe.gguf"), "x.gguf", {.out = {}, .gptq = {}}, 20);
  EXPECT_FALSE(r.blended.empty());
  EXPECT_TRUE(r.unseen.empty());
  for (const InputKey& key : r.blended) EXPECT_GE(key.expert, 0);
}

TEST_F(GptqModel, EachBadInputIsNamed) {
  const auto error = [&](const std::string& model, const QuantiseOptions& options, int n_tok) {
    try {
      quantise(model, "x.gguf", options, n_tok);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  const QuantiseOptions plain{.out = {}, .gptq = {}};
  QuantiseOptions odd_group = plain, three_bits = plain;
  odd_group.as_f32 = true;
  odd_group.gptq.grid.group = 48;
  three_bits.gptq.grid.bits = 3;
  EXPECT_EQ(error(model_path("mixtral-Q4_K_M.gguf"), plain, 20).substr(0, 12), "[quant] blk.");
  EXPECT_EQ(error(model_path("llama.gguf"), plain, 0),
            "[quant] calibration: expected some text, it has none");
  EXPECT_NE(error(model_path("llama.gguf"), odd_group, 20).find("expected a divisor"),
            std::string::npos);
  EXPECT_EQ(error(model_path("llama.gguf"), three_bits, 20),
            "[quant] expected a grid that GGUF has a type for (group 32 with 4 bits, or 8 "
            "symmetric), got 3 bits in groups of 32");
  EXPECT_FALSE(std::filesystem::exists(path("x.gguf")));
}

TEST(CalibrationNames, KnownAndOthers) {
  EXPECT_EQ(layer_matrix("blk.12.ffn_up_exps.weight")->layer, 12);
  EXPECT_TRUE(layer_matrix("blk.12.ffn_up_exps.weight")->routed);
  EXPECT_EQ(layer_matrix("blk.0.ffn_up_shexp.weight")->key(3),
            (InputKey{0, LinearInput::kFfn, -1}));
  EXPECT_EQ(layer_matrix("blk.0.attn_v.weight")->output, LinearInput::kHeads);
  for (const char* other :
       {"token_embd.weight", "blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "blk..x",
        "blk.x.ffn_up.weight", "blk.0", "blk.0.ffn_up.bias", "blk.-1.ffn_up.weight"})
    EXPECT_FALSE(layer_matrix(other)) << other;
}

}  // namespace
}  // namespace hob
