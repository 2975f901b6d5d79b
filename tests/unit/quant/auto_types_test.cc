#include "quant/auto_types.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "format/gguf.h"
#include "quant/calibration_names.h"
#include "quant/loss_journal.h"
#include "quant/quantise_gguf.h"
#include "quant/rounded_model.h"
#include "quant/rounding_error.h"
#include "tensor/dequant.h"
#include "unit/format/temp_folder.h"

namespace hob {
namespace {

std::string model_path(const std::string& name) {
  return std::string(HOB_TEST_DATA) + "/model/" + name;
}

std::vector<QuantStep> plan(const ModelFile& model, QuantPlanOptions options = {}) {
  options.type = &find_file_type("F16");
  return plan_quantisation(model, options);
}

class AutoTypesTest : public ::testing::Test {
 protected:
  AutoTypes choose(const ModelFile& model, uint64_t target, const QuantPlanOptions& plan_of = {}) {
    AutoTypeOptions options;
    options.target_bytes = target;
    options.candidates = {default_candidates().begin(), default_candidates().end()};
    options.n_most_groups = n_groups_;
    if (with_text_) options.measured = text_options();
    return choose_types(model, plan(model, plan_of), nullptr, options, pool_,
                        [&](std::string_view what, uint64_t, uint64_t) {
                          if (what == "measuring losses" && n_windows_++ == stop_at_)
                            fail(Code::kCancelled, "[test] stop");
                        });
  }

  GroupLossOptions text_options() {
    tokens_.clear();
    for (int i = 0; i < 2 * kLossWindow; i++) tokens_.push_back((11 + 7 * i + i * i % 13) % 300);
    GroupLossOptions options{.session = {},
                             .tokens = tokens_,
                             .bos = -1,
                             .scratch = folder_.file("logits"),
                             .journal = folder_.file("losses")};
    options.session.n_threads = 2;
    set_loss_options(options.session);
    return options;
  }

  // Of the whole file with this type for all free tensors.
  static uint64_t size_in(const ModelFile& model, DType type) {
    std::vector<QuantStep> steps = plan(model);
    for (QuantStep& step : steps)
      if (step.free) step.to = type_for_width(type, step.tensor->shape.cols());
    return quantised_bytes(model, find_file_type("F32"), steps);
  }

  TempFolder folder_;
  ThreadPool pool_{2};
  bool with_text_ = false;
  int n_groups_ = 8, n_windows_ = 0, stop_at_ = -1;
  std::vector<int32_t> tokens_;
};

TEST_F(AutoTypesTest, FitsAndUsesTheRoom) {
  const ModelFile model = open_gguf(model_path("llama.gguf"));
  double before = INFINITY;
  for (const DType type : {DType::kQ4_0, DType::kQ5_0, DType::kQ8_0, DType::kF16}) {
    const uint64_t target = size_in(model, type);
    const AutoTypes chosen = choose(model, target);
    EXPECT_LE(chosen.n_bytes, target);
    EXPECT_GT(chosen.n_bytes, target * 9 / 10);
    EXPECT_LE(chosen.loss, before);
    EXPECT_FALSE(chosen.measured);
    before = chosen.loss;
    double sum = 0;
    for (size_t i = 0; i < chosen.steps.size(); i++) {
      sum += chosen.losses[i].loss;
      EXPECT_TRUE(chosen.steps[i].free || chosen.losses[i].loss == 0);
    }
    EXPECT_NEAR(sum, chosen.loss, 1e-12 + 1e-9 * sum);
  }
}

TEST_F(AutoTypesTest, NamedTypesStayAndImpossibleTargetsAreRefused) {
  const ModelFile model = open_gguf(model_path("llama.gguf"));
  QuantPlanOptions named;
  named.tensor_types = {{"attn_q", DType::kQ8_0}};
  const AutoTypes chosen = choose(model, size_in(model, DType::kQ5_0), named);
  for (const QuantStep& step : chosen.steps) {
    if (step.tensor->name.find("attn_q.") != std::string::npos) {
      EXPECT_EQ(step.to, DType::kQ8_0);
    }
  }
  EXPECT_THROW(choose(model, 1000), Error);
  EXPECT_THROW(choose(model, model.total_bytes() * 2), Error);
}

TEST_F(AutoTypesTest, MeasuredLossesDecideAndAreKept) {
  with_text_ = true;
  const ModelFile model = open_gguf(model_path("olmoe.gguf"));
  const uint64_t target = size_in(model, DType::kQ5_0);
  stop_at_ = 2 * 4 + 1;  // in the fourth group
  EXPECT_THROW(choose(model, target), Error);
  EXPECT_FALSE(std::filesystem::exists(folder_.file("logits")));
  const int n_before = n_windows_;
  stop_at_ = -1;
  n_windows_ = 0;
  const AutoTypes resumed = choose(model, target);
  const int n_rest = n_windows_;
  EXPECT_TRUE(resumed.measured);
  EXPECT_GT(resumed.loss, 0);
  n_windows_ = 0;
  EXPECT_EQ(choose(model, target).loss, resumed.loss);
  EXPECT_EQ(n_windows_, 0);  // all is known
  std::filesystem::remove(folder_.file("losses"));
  EXPECT_EQ(choose(model, target).loss, resumed.loss);
  EXPECT_LT(n_rest, n_windows_);
  EXPECT_GT(n_before, 2);
}

// Rounding a tensor must be seen by the model: the same logits would mean a loss of 0 for all.
TEST_F(AutoTypesTest, EveryGroupCostsSomething) {
  for (const char* name : {"llama.gguf", "olmoe.gguf", "mixtral-Q4_K_M.gguf"}) {
    const ModelFile model = open_gguf(model_path(name));
    std::vector<const RawTensor*> tensors;
    for (const QuantStep& step : plan(model))
      if (step.free) tensors.push_back(step.tensor);
    const std::vector<TensorGroup> groups = group_tensors(tensors, 1);
    GroupLossOptions options = text_options();
    options.journal = folder_.file(name);
    for (const double loss :
         measure_group_losses(model, groups, options, [](uint64_t, uint64_t) {}))
      EXPECT_GT(loss, 0) << name;
  }
}

TEST(RoundedModel, OneTensorIsRoundedAndNoOther) {
  const ModelFile model = open_gguf(model_path("llama.gguf"));
  const RawTensor* const chosen = model.find("blk.1.ffn_up.weight");
  const ModelFile rounded = with_rounded(model, std::span(&chosen, 1));
  // Twice: a made tensor of a model that has made tensors already.
  const RawTensor* const other = rounded.find("blk.0.ffn_up.weight");
  const ModelFile twice = with_rounded(rounded, std::span(&other, 1));
  RowReader before(model), after(twice);
  for (size_t i = 0; i < model.tensors().size(); i++) {
    const RawTensor &a = model.tensors()[i], &b = twice.tensors()[i];
    ASSERT_EQ(a.dtype, b.dtype);
    std::vector<std::byte> x(a.n_bytes), y(b.n_bytes);
    before.read(a, 0, a.shape.rows(), x);
    after.read(b, 0, b.shape.rows(), y);
    EXPECT_EQ(x == y, a.name != "blk.1.ffn_up.weight" && a.name != "blk.0.ffn_up.weight") << a.name;
  }
  ThreadPool pool(1);
  RoundingErrors errors(model, nullptr, pool);
  const DType types[] = {DType::kQ8_0, DType::kQ4_0, chosen->dtype};
  const std::vector<double> e = errors.of(*chosen, types);
  EXPECT_LT(e[0] * 20, e[1]);
  EXPECT_EQ(e[2], 0);
  EXPECT_GE(errors.of_plain(*chosen), e[1]);  // the search is not worse than no search
}

TEST(TensorGroups, BandsOfLikeMatrices) {
  std::vector<RawTensor> tensors;
  for (int layer = 0; layer < 10; layer++)
    for (const char* kind : {"attn_q.weight", "ffn_up.weight"})
      tensors.push_back(
          {"blk." + std::to_string(layer) + "." + kind, DType::kF32, {4, 4}, 0, 0, 64});
  tensors.push_back({"output.weight", DType::kF32, {4, 4}, 0, 0, 64});
  std::vector<const RawTensor*> all;
  for (const RawTensor& t : tensors) all.push_back(&t);
  EXPECT_EQ(group_tensors(all, 100).size(), 21u);
  const std::vector<TensorGroup> groups = group_tensors(all, 8);
  ASSERT_EQ(groups.size(), 7u);
  size_t n = 0;
  for (const TensorGroup& group : groups) {
    n += group.tensors.size();
    const auto kind = [](const RawTensor* t) {
      return t->name.starts_with("blk.") ? layer_name(t->name)->rest : std::string_view(t->name);
    };
    for (const RawTensor* t : group.tensors) EXPECT_EQ(kind(t), kind(group.tensors[0]));
  }
  EXPECT_EQ(n, all.size());
  EXPECT_EQ(group_tensors(all, 1).size(), 3u);  // never fewer than the kinds
}

TEST(LossJournal, KeepsWhatWasWhole) {
  const TempFolder folder;
  const std::string path = folder.file("losses");
  {
    LossJournal journal(path, 7);
    journal.add(3, 0.125);
    journal.add(1, 1e-9);
  }
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 5);  // torn
  {
    LossJournal journal(path, 7);
    ASSERT_NE(journal.find(3), nullptr);
    EXPECT_EQ(*journal.find(3), 0.125);
    EXPECT_EQ(journal.find(1), nullptr);
    journal.add(1, 2.0);
  }
  EXPECT_EQ(*LossJournal(path, 7).find(1), 2.0);
  EXPECT_EQ(LossJournal(path, 8).find(3), nullptr);  // of something else
  const std::string mine = folder.write("mine", "a text that is none of ours");
  EXPECT_THROW(LossJournal(mine, 7), Error);
  EXPECT_EQ(std::filesystem::file_size(mine), 27u);
}

}  // namespace
}  // namespace hob
