// What the decoder does when something goes wrong, and what it reports.
#include "model/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "format/gguf.h"
#include "unit/model/model_checks_util.h"
#include "unit/model/naive_backend_util.h"
#include "unit/model/temp_dir_util.h"

namespace hob {
namespace {

using Tokens = ModelHarness::Tokens;

// The same two experts per row in every layer.
class FixedRoute : public RouteOverride {
 public:
  explicit FixedRoute(std::vector<std::array<int32_t, 2>> by_token)
      : by_token_(std::move(by_token)) {}
  int top_k() const override { return 2; }
  void route(int, std::span<const StepRow> rows, int32_t* ids, float* weights) override {
    for (const StepRow& r : rows)
      for (int32_t id : by_token_[static_cast<size_t>(r.token)]) {
        *ids++ = id;
        *weights++ = 0.5f;
      }
  }

 private:
  std::vector<std::array<int32_t, 2>> by_token_;
};

// Row i of the result is the logits of sequence i's last token.
struct Step {
  std::vector<float> logits;
  std::vector<Decoder::RowFailure> failures;
};

Step forward(ModelHarness& model, const std::vector<Tokens>& sequences) {
  StepBatch batch;
  for (const Tokens& tokens : sequences)
    model.append_rows(batch, model.kv().create(), tokens, true);
  Step step;
  const int n = batch.n_logits();
  step.logits.resize(static_cast<size_t>(n) * static_cast<size_t>(model.n_vocab()));
  model.decoder().forward(batch, model.kv(),
                          {step.logits.data(), n, model.n_vocab(), model.n_vocab()});
  step.failures = model.decoder().failed_rows();
  for (const Tokens& tokens : sequences) EXPECT_FALSE(tokens.empty());
  return step;
}

std::vector<int> failed(const Step& step) {
  std::vector<int> rows;
  for (const auto& f : step.failures) rows.push_back(f.row);
  return rows;
}

bool same_row(const ModelHarness& model, const Step& a, const Step& b, int row) {
  const size_t n = static_cast<size_t>(model.n_vocab()), at = static_cast<size_t>(row) * n;
  return std::memcmp(a.logits.data() + at, b.logits.data() + at, n * sizeof(float)) == 0;
}

class UnreadableExpert : public ::testing::Test {
 protected:
  // The last expert of the last layer is the last thing in the file: cut into it while the model
  // runs.
  UnreadableExpert() {
    const std::string path = dir_ / "model.gguf";
    std::filesystem::copy_file(find_logits_fixture("olmoe") + ".gguf", path);
    model_ = std::make_unique<ModelHarness>(path, make_naive_backend,
                                            HarnessOptions{.expert_budget_bytes = 1});
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 8192);
    model_->decoder().set_route_override(&route_);
  }
  static constexpr int kLost = 3;                                       // of 4
  FixedRoute route_{{{0, 1}, {1, 2}, {2, kLost}, {0, 2}, {kLost, 0}}};  // by token id
  TempDir dir_;
  std::unique_ptr<ModelHarness> model_;
};

TEST_F(UnreadableExpert, FailsTheRowsThatNeedItAndNoOther) {
  ModelHarness healthy(find_logits_fixture("olmoe") + ".gguf", make_naive_backend);
  healthy.decoder().set_route_override(&route_);
  const std::vector<Tokens> sequences{{0}, {1}, {2}, {3}, {4}, {1}};
  const Step expected = forward(healthy, sequences), got = forward(*model_, sequences);
  EXPECT_TRUE(expected.failures.empty());
  EXPECT_EQ(failed(got), (std::vector<int>{2, 4}));
  for (int row : {0, 1, 3, 5}) EXPECT_TRUE(same_row(healthy, expected, got, row)) << row;
  try {
    std::rethrow_exception(got.failures[0].error);
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("model.gguf"), std::string::npos) << e.what();
  }
  // The next step is unharmed.
  EXPECT_TRUE(forward(*model_, {{0}, {1}}).failures.empty());
}

TEST_F(UnreadableExpert, LaterRowsOfItsSequenceFailToo) {
  const Step got = forward(*model_, {{0, 1, 2, 1, 3}, {1, 0, 3}});
  EXPECT_EQ(failed(got), (std::vector<int>{2, 3, 4}));
}

TEST(Decoder, RoutingOutsideTheExpertsFailsTheRow) {
  ModelHarness model(find_logits_fixture("olmoe") + ".gguf", make_naive_backend);
  FixedRoute route({{0, 1}, {-1, 2}, {1, 4}});
  model.decoder().set_route_override(&route);
  const Step got = forward(model, {{0}, {1}, {2}, {0}});
  EXPECT_EQ(failed(got), (std::vector<int>{1, 2}));
  EXPECT_TRUE(same_row(model, got, forward(model, {{1}, {0}, {0}, {0}}), 3));
}

TEST(Decoder, RouteOverrideMayUseMoreExpertsThanTheModel) {
  class AllExperts : public RouteOverride {
   public:
    int top_k() const override { return 4; }
    void route(int, std::span<const StepRow> rows, int32_t* ids, float* weights) override {
      for (size_t i = 0; i < rows.size() * 4; i++) {
        ids[i] = static_cast<int32_t>(i % 4);
        weights[i] = 0.25f;
      }
    }
  } all;
  ModelHarness model(find_logits_fixture("olmoe") + ".gguf", make_naive_backend, {.max_rows = 8});
  const Step own = forward(model, {{5, 6, 7, 8, 9, 10, 11, 12}});
  model.decoder().set_route_override(&all);
  const Step forced = forward(model, {{5, 6, 7, 8, 9, 10, 11, 12}});
  EXPECT_FALSE(same_row(model, own, forced, 7));
  model.decoder().set_route_override(nullptr);
  EXPECT_TRUE(same_row(model, own, forward(model, {{5, 6, 7, 8, 9, 10, 11, 12}}), 7));
}

// What an observer saw, forced on the same rows, gives the same bits: nothing is missed or
// reordered.
TEST(Decoder, AnObservedRoutingReplaysToTheSameLogits) {
  struct Tape : RouteObserver, RouteOverride {
    std::map<std::pair<int, int>, std::vector<std::pair<int32_t, float>>>
        choices;  // layer, position
    void on_route(int layer, std::span<const StepRow> rows, std::span<const int32_t> ids,
                  std::span<const float> weights) override {
      const size_t k = ids.size() / rows.size();
      for (size_t i = 0; i < ids.size(); i++)
        choices[{layer, rows[i / k].position}].emplace_back(ids[i], weights[i]);
    }
    int top_k() const override { return static_cast<int>(choices.begin()->second.size()); }
    void route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) override {
      for (const StepRow& row : rows)
        for (const auto& [id, weight] : choices.at({layer, row.position})) {
          *ids++ = id;
          *weights++ = weight;
        }
    }
  } tape;
  ModelHarness model(find_logits_fixture("olmoe") + ".gguf", make_naive_backend, {.max_rows = 8});
  const std::vector<Tokens> sequence = {{5, 6, 7, 8, 9, 10, 11, 12}};
  model.decoder().set_route_observer(&tape);
  const Step own = forward(model, sequence);
  model.decoder().set_route_observer(nullptr);
  EXPECT_EQ(tape.choices.size(), 2 * 8u);
  const size_t n = tape.choices.size();
  model.decoder().set_route_override(&tape);
  EXPECT_TRUE(same_row(model, own, forward(model, sequence), 0));
  EXPECT_EQ(tape.choices.size(), n);  // the observer was taken off
}

// A hint brings what the tokens chose before, once they have been seen, and changes no logits.
TEST(Decoder, ExpectedTokensBringTheirExperts) {
  const std::string path = find_logits_fixture("olmoe") + ".gguf";
  ModelHarness resident(path, make_naive_backend);
  ModelHarness model(path, make_naive_backend,
                     {.expert_budget_bytes = resident.experts()->total_bytes() / 2});
  model.decoder().set_prefetch(PrefetchMode::kOn, {});
  const Tokens a{7}, others{8, 9, 10, 11, 12, 13};
  model.decoder().expect(a);
  EXPECT_EQ(model.experts()->stats().prefetches, 0u);  // never seen
  const Step first = forward(model, {a});
  uint64_t n_used = 0;
  for (int i = 0; i < 8; i++) {
    forward(model, {others});  // a's experts leave the cache
    model.experts()->reset_stats();
    model.decoder().expect(a);
    const uint64_t n_hinted = model.experts()->stats().prefetches;
    EXPECT_TRUE(same_row(resident, first, forward(model, {a}), 0));
    EXPECT_LE(n_hinted, model.experts()->stats().prefetches_used);  // of layer 0, all come true
    n_used += n_hinted;
    // A hint for a step that turns out otherwise.
    model.decoder().expect(others);
    EXPECT_TRUE(same_row(resident, first, forward(model, {a}), 0));
  }
  EXPECT_GT(n_used, 0u);
  EXPECT_TRUE(same_row(resident, first, forward(resident, {a}), 0));

  model.decoder().set_prefetch(PrefetchMode::kOff, {});
  model.experts()->reset_stats();
  forward(model, {others});
  model.decoder().expect(a);
  forward(model, {a});
  EXPECT_EQ(model.experts()->stats().prefetches, 0u);
}

TEST(Decoder, StepWithoutLogitsOnlyFillsTheCache) {
  ModelHarness model(find_logits_fixture("qwen3moe") + ".gguf", make_naive_backend);
  const Tokens tokens{10, 20, 30, 40, 50};
  const std::vector<float> expected = model.evaluate_last(tokens);
  const SeqId seq = model.kv().create();
  StepBatch prefill, last;
  model.append_rows(prefill, seq, std::span(tokens).first(4), false);
  model.decoder().forward(prefill, model.kv(), {});
  model.kv().commit(seq, 4);
  model.append_rows(last, seq, std::span(tokens).last(1), true);
  std::vector<float> logits(static_cast<size_t>(model.n_vocab()));
  model.decoder().forward(last, model.kv(), {logits.data(), 1, model.n_vocab(), model.n_vocab()});
  EXPECT_EQ(logits, expected);
}

TEST(Decoder, TimesAddUp) {
  ModelHarness model(find_logits_fixture("qwen2moe") + ".gguf", make_naive_backend,
                     {.expert_budget_bytes = 1});
  model.evaluate({1, 2, 3, 4});
  const StageTimes t = model.decoder().times();
  for (uint64_t part : t.ns) {
    EXPECT_GT(part, 0u);
    EXPECT_LT(part, uint64_t{60} * 1000 * 1000 * 1000);  // nothing wrapped around
  }
  model.decoder().reset_times();
  EXPECT_EQ(model.decoder().times().total(), 0u);
}

TEST(Decoder, CountsWhatAStepComputes) {
  ModelHarness model(find_logits_fixture("qwen3moe") + ".gguf", make_naive_backend);
  const ModelSpec& spec = model.layout().spec;
  const SeqId a = model.kv().create(), b = model.kv().create();
  StepBatch batch;
  model.append_rows(batch, a, Tokens{1, 2, 3}, false);
  model.append_rows(batch, b, Tokens{4, 5}, false);
  batch.rows[1].want_logits = true;
  std::vector<float> logits(static_cast<size_t>(model.n_vocab()));
  model.decoder().forward(batch, model.kv(), {logits.data(), 1, model.n_vocab(), model.n_vocab()});
  batch.rows[1].want_logits = false;
  model.decoder().forward(batch, model.kv(), {});
  const WorkCounts& c = model.decoder().counts();
  EXPECT_EQ(c.n_steps, 2u);
  EXPECT_EQ(c.n_logit_steps, 1u);
  EXPECT_EQ(c.n_rows, 10u);
  EXPECT_EQ(c.n_logit_rows, 1u);
  EXPECT_EQ(c.n_visible, 2u * (1 + 2 + 3 + 1 + 2));
  EXPECT_EQ(c.n_logit_visible, 2u);
  EXPECT_EQ(c.n_context, 2u * (3 + 2));
  EXPECT_EQ(c.n_logit_context, 2u);
  const auto k = static_cast<uint64_t>(spec.moe.top_k),
             n_layers = static_cast<uint64_t>(spec.n_layers);
  EXPECT_EQ(c.n_choices, k * (10 * (n_layers - 1) + 1));
  model.decoder().reset_times();
  EXPECT_EQ(model.decoder().counts().n_rows, 0u);
}

TEST(Decoder, ScratchBytesCoverThePartsOfEveryChoice) {
  ModelSpec spec;
  spec.d_model = 2048;
  spec.attn = {.n_heads = 16, .n_kv_heads = 16, .d_k = 128, .d_v = 128};
  spec.rope.d_rot = 128;
  spec.moe.n_experts = 64;
  spec.moe.top_k = 8;
  spec.moe.d_expert = 1024;
  const uint64_t parts = uint64_t{512} * 8 * 2048 * 4, rope = uint64_t{4096} * 128 * 4;
  EXPECT_GT(Decoder::scratch_bytes(spec, 512, 4096), parts + rope);
  EXPECT_LT(Decoder::scratch_bytes(spec, 512, 4096), (parts + rope) * 3 / 2);
  EXPECT_LT(Decoder::scratch_bytes(spec, 1, 16), 256u * 1024);
}

TEST(DecoderLoad, ReportsProgressToTheEnd) {
  const ModelFile file = open_gguf(find_logits_fixture("olmoe") + ".gguf");
  const std::unique_ptr<Backend> backend = make_naive_backend();
  uint64_t last = 0, end = 0;
  Decoder::load(file, bind_layout(file, *backend), *backend, 4, 64,
                [&](uint64_t done, uint64_t total) {
                  EXPECT_GT(done, last);
                  EXPECT_LE(done, total);
                  last = done;
                  end = total;
                });
  EXPECT_GT(end, 0u);
  EXPECT_EQ(last, end);
}

TEST(DecoderLoad, FileThatShrankOrWentAwayIsOneClearError) {
  const TempDir dir;
  const std::string path = dir / "model.gguf";
  std::filesystem::copy_file(find_logits_fixture("llama") + ".gguf", path);
  const ModelFile file = open_gguf(path);
  const std::unique_ptr<Backend> backend = make_naive_backend();
  const ModelLayout layout = bind_layout(file, *backend);
  const auto load_error = [&] {
    try {
      Decoder::load(file, layout, *backend, 4, 64, {});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  std::filesystem::resize_file(path, 200000);
  EXPECT_NE(load_error().find("the file ends at 200000"), std::string::npos) << load_error();
  std::filesystem::remove(path);
  EXPECT_NE(load_error().find(path), std::string::npos) << load_error();
}

}  // namespace
}  // namespace hob
