// Every family's published model: checkpoints with the logits that transformers computes of them
// (tests/golden/README.md), converted to GGUF and run.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "hf/convert.h"
#include "hf/open_model.h"
#include "unit/model/model_checks_util.h"
#include "unit/model/naive_backend_util.h"
#include "unit/model/temp_dir_util.h"

namespace hob {
namespace {

namespace fs = std::filesystem;
const fs::path kGoldens = fs::path(HOB_SOURCE_DIR) / "tests" / "golden";

struct Golden {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
};

Golden read_golden(const fs::path& dir) {
  Golden g;
  std::ifstream text(dir / "tokens.txt");
  for (std::string id; std::getline(text, id, ',');) g.tokens.push_back(std::stoi(id));
  std::ifstream raw(dir / "logits.f32", std::ios::binary);
  std::stringstream bytes;
  bytes << raw.rdbuf();
  const std::string all = bytes.str();
  g.logits.resize(all.size() / sizeof(float));
  std::copy(all.begin(), all.end(), reinterpret_cast<char*>(g.logits.data()));
  return g;
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(kGoldens))
    if (entry.is_directory()) out.push_back(entry.path().filename());
  std::sort(out.begin(), out.end());
  return out;
}

// The context that the golden's configuration was run with: LongRoPE chooses its factors by it.
int context_of(const std::string& name, const Golden& golden) {
  return name.ends_with("_long") ? 128 : static_cast<int>(golden.tokens.size());
}

// As a GGUF file, and straight from the folder.
class Goldens : public testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  Goldens()
      : name_(std::get<0>(GetParam())),
        golden_(read_golden(kGoldens / name_)),
        path_(std::get<1>(GetParam()) ? (kGoldens / name_).string() : converted()) {
    set_model_opener(open_model_file);
  }
  std::string converted() {
    std::string path = dir_ / "model.gguf";
    write_gguf(HfCheckpoint::open(kGoldens / name_), path, [](uint64_t, uint64_t) {});
    return path;
  }
  // Both: a backend that computes in double, and the one that users have.
  void expect_logits(const BackendFactory& backend, double bar) {
    ModelHarness model(path_, backend, {.max_rows = 64, .n_ctx = context_of(name_, golden_)});
    ASSERT_EQ(golden_.logits.size(), golden_.tokens.size() * static_cast<size_t>(model.n_vocab()));
    const LogitsDifference d =
        compare_logits(golden_.logits, model.evaluate(golden_.tokens), model.n_vocab());
    RecordProperty("max_abs", std::to_string(d.max_abs));
    EXPECT_LE(d.max_abs, bar);
    EXPECT_GE(d.same_argmax, bar < 1 ? 1.0 : 0.9);
    EXPECT_LE(d.mean_kl, 8e-3);
  }
  TempDir dir_;
  const std::string name_;
  const Golden golden_;
  const std::string path_;
};

TEST_P(Goldens, HaveTransformersLogits) {
  expect_logits(make_naive_backend, 2e-3);
  // Products with quantised weights take 8-bit activations.
  const bool quantised = name_.find("mxfp4") != std::string::npos;
  expect_logits([] { return make_cpu_backend({}); }, quantised ? 1.0 : 2e-3);
}

TEST_P(Goldens, HaveTheSameBitsHoweverBatched) {
  const BackendFactory cpu = [] { return make_cpu_backend({}); };
  expect_same_bits_however_batched(path_, cpu);
  if (ModelHarness(path_, cpu).experts()) expect_same_bits_with_one_slot(path_, cpu);
}

TEST_P(Goldens, HaveTheSameBitsInBothFormats) {
  const BackendFactory cpu = [] { return make_cpu_backend({}); };
  const HarnessOptions options{.max_rows = 64, .n_ctx = context_of(name_, golden_)};
  ModelHarness own(path_, cpu, options), file(converted(), cpu, options);
  EXPECT_EQ(own.evaluate(golden_.tokens), file.evaluate(golden_.tokens));
}

INSTANTIATE_TEST_SUITE_P(Families, Goldens,
                         testing::Combine(testing::ValuesIn(names()), testing::Bool()),
                         [](const auto& golden) {
                           return std::get<0>(golden.param) +
                                  (std::get<1>(golden.param) ? "_folder" : "_gguf");
                         });

}  // namespace
}  // namespace hob
