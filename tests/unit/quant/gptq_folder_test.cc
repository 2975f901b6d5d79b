// Folders as GPTQ's and AWQ's tools make them, against the same values as plain numbers in GGUF.
#include "quant/gptq_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "engine/observed_run.h"
#include "format/gguf.h"
#include "format/strict_json.h"
#include "hf/convert.h"
#include "hf/hf_checkpoint.h"
#include "hf/hf_config.h"
#include "hf/open_model.h"
#include "quant/calibration_weights.h"

namespace hob {
namespace {

namespace fs = std::filesystem;

std::string golden(const std::string& name) {
  return std::string(HOB_SOURCE_DIR) + "/tests/golden/" + name;
}

struct Case {
  const char* model;
  HfPackMethod format;
  QuantMethod method;
  int bits;
  GridKind kind;
};

class GptqFolder : public testing::Test {
 protected:
  GptqFolder() : pool_(2) {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    dir_ = fs::temp_directory_path() / ("hob_folder_" + std::string(test->name()));
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~GptqFolder() override { fs::remove_all(dir_); }

  std::unique_ptr<ModelSession> open(const std::string& path) {
    SessionOptions options;
    options.path = path;
    options.n_threads = 2;
    options.n_ctx = 128;
    options.pack = "none";
    options.max_logit_rows = kCalibrationRows;
    return ModelSession::load(plan_model(options, open_writable_model(path).file), {});
  }
  QuantiseOptions options(const Case& c, const std::string& out) {
    QuantiseOptions o{.out = path(out), .method = c.method, .gptq = {}};
    o.gptq.grid = {.bits = c.bits, .group = 32, .kind = c.kind};
    return o;
  }
  void make_folder(const Case& c, const std::string& in, const QuantiseOptions& o) {
    quantise_to_folder(*open(in), in, c.format, tokens(), o, pool_, no_progress());
  }
  static CalibratedProgress no_progress() {
    return [](std::string_view, uint64_t, uint64_t) {};
  }
  static std::vector<int32_t> tokens() {
    std::vector<int32_t> all;
    for (int i = 0; i < 512; i++) all.push_back((11 + 3 * i + i * i % 13) % 90);
    return all;
  }
  std::string path(const std::string& name) const { return (dir_ / name).string(); }
  std::string error_of(const Case& c, const std::string& in, const QuantiseOptions& o) {
    try {
      make_folder(c, in, o);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  fs::path dir_;
  ThreadPool pool_;
};

// Rows in transformers' order, zero points, words, folded norms: all of it shows in the numbers.
TEST_F(GptqFolder, HoldsTheValuesOfTheMethod) {
  using enum HfPackMethod;
  const Case cases[] = {
      {"mixtral", kGptq, QuantMethod::kGptq, 4, GridKind::kSymmetric},
      {"mixtral", kAwq, QuantMethod::kAwq, 4, GridKind::kZeroPoint},
      {"llama3", kGptq, QuantMethod::kAwqGptq, 3, GridKind::kSymmetric},
      {"qwen2_moe", kGptq, QuantMethod::kRtn, 8, GridKind::kSymmetric},
      {"olmoe", kAwq, QuantMethod::kAwqGptq, 4, GridKind::kSymmetric},
      {"phi3", kGptq, QuantMethod::kGptq, 2, GridKind::kSymmetric},
  };
  for (const Case& c : cases) {
    make_folder(c, golden(c.model), options(c, "folder"));
    QuantiseOptions plain = options(c, "plain.gguf");
    plain.as_f32 = true;
    quantise_model(*open(golden(c.model)), tokens(), plain, pool_, no_progress());
    write_gguf(HfCheckpoint::open(path("folder"), HfOutType::kF32), path("back.gguf"),
               [](uint64_t, uint64_t) {});
    const ModelFile expected = open_gguf(path("plain.gguf")), back = open_gguf(path("back.gguf"));
    const WeightReader expected_values(expected), values(back);
    for (const RawTensor& t : expected.tensors()) {
      const RawTensor* same = back.find(t.name);
      ASSERT_NE(same, nullptr) << c.model << " " << t.name;
      ASSERT_EQ(values.values(*same, 0, t.shape.n_elements()),
                expected_values.values(t, 0, t.shape.n_elements()))
          << c.model << " " << t.name;
    }
    // Straight from the folder the codes stay codes.
    const ModelFile direct = open_model_file(path("folder"));
    EXPECT_TRUE(dtype_info(direct.find("blk.0.attn_output.weight")->dtype).quantised());
  }
}

TEST_F(GptqFolder, HasWhatToolsLookFor) {
  const Case c{"mixtral", HfPackMethod::kGptq, QuantMethod::kRtn, 4, GridKind::kZeroPoint};
  const std::string in = path("in");
  fs::copy(golden("mixtral"), in);
  std::ofstream(in + "/generation_config.json") << "{}";
  std::ofstream(in + "/old.bin") << "weights";
  make_folder(c, in, options(c, "out"));
  EXPECT_TRUE(fs::exists(path("out/generation_config.json")));
  EXPECT_FALSE(fs::exists(path("out/old.bin")));
  const Json q = read_config_file(path("out/config.json"), "config.json")["quantization_config"];
  EXPECT_EQ(q["quant_method"], "gptq");
  EXPECT_EQ(q["bits"], 4);
  EXPECT_EQ(q["group_size"], 32);
  EXPECT_EQ(q["sym"], false);
  const SafetensorsSet made = SafetensorsSet::open(path("out"));
  for (const char* part : {"qweight", "qzeros", "scales", "g_idx"})
    EXPECT_NE(made.find(std::string("model.layers.1.self_attn.q_proj.") + part), nullptr) << part;
  EXPECT_EQ(made.find("model.layers.1.self_attn.q_proj.weight"), nullptr);
  // A stored -1 is read as 0 by some and as 16 by others.
  const SafeTensor* zeros = made.find("model.layers.0.self_attn.q_proj.qzeros");
  std::vector<std::byte> bytes(zeros->n_bytes);
  made.read(*zeros, 0, bytes);
  for (const std::byte b : bytes) {
    EXPECT_NE(b & std::byte{15}, std::byte{15});
    EXPECT_NE(b >> 4, std::byte{15});
  }
}

TEST_F(GptqFolder, RefusesWhatTheFormatsDoNotHave) {
  Case c{"mixtral", HfPackMethod::kAwq, QuantMethod::kRtn, 4, GridKind::kOffset};
  const std::string in = golden("mixtral");
  EXPECT_NE(error_of(c, in, options(c, "x")).find("symmetric or has a zero point"),
            std::string::npos);
  c = {"mixtral", HfPackMethod::kAwq, QuantMethod::kRtn, 3, GridKind::kZeroPoint};
  EXPECT_NE(error_of(c, in, options(c, "x")).find("[quant] awq: expected 4 bits"),
            std::string::npos);
  c = {"gpt_oss", HfPackMethod::kGptq, QuantMethod::kRtn, 4, GridKind::kSymmetric};
  EXPECT_NE(error_of(c, golden("gpt_oss"), options(c, "x")).find("one tensor per matrix"),
            std::string::npos);
  c.model = "mixtral";
  make_folder(c, in, options(c, "packed"));
  EXPECT_NE(error_of(c, path("packed"), options(c, "x")).find("not quantised yet"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(path("x")));
}

}  // namespace
}  // namespace hob
