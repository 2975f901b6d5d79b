#include "engine/observed_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/error.h"

namespace hob {
namespace {

constexpr int kModel = 32, kHidden = 64;

std::vector<float> waves(size_t n, float phase, float scale) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; i++)
    values[i] = scale * std::sin(phase + 0.731f * static_cast<float>(i * i % 977));
  return values;
}

class Matrix {
 public:
  Matrix(Backend& backend, int n_rows, int n_cols, float phase)
      : data_(backend.prepared_bytes(DType::kF32, n_rows, n_cols)) {
    const std::vector<float> values =
        waves(static_cast<size_t>(n_rows) * static_cast<size_t>(n_cols), phase, 0.5f);
    backend.prepare(DType::kF32, n_rows, n_cols, reinterpret_cast<const std::byte*>(values.data()),
                    data_.data());
    weight = {DType::kF32, n_rows, n_cols, data_.data()};
  }
  Weight weight;

 private:
  AlignedBuffer data_;
};

// What FfnInputs says goes into `down`, times `down`, is what the backend makes of the group.
TEST(FfnInputs, HiddenTimesDownIsTheExpert) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.n_threads = 2, .force_isa = {}});
  const Matrix gate(*backend, kHidden, kModel, 0.1f), up(*backend, kHidden, kModel, 0.7f),
      down(*backend, kModel, kHidden, 1.3f);
  const std::vector<float> gate_bias = waves(kHidden, 2, 3), up_bias = waves(kHidden, 3, 3),
                           down_bias = waves(kModel, 4, 3);
  std::vector<float> x = waves(5 * kModel, 5, 3);
  const Mat in{x.data(), 5, kModel, kModel};
  const std::vector<int32_t> rows{4, 1, 2}, out_rows{0, 1, 2};
  for (const GatedUnit unit : {GatedUnit::kSilu, GatedUnit::kGelu, GatedUnit::kClampedSilu}) {
    for (const bool biased : {false, true}) {
      ExpertGroup group{.gate = gate.weight,
                        .up = up.weight,
                        .down = down.weight,
                        .rows = rows,
                        .out_rows = out_rows};
      if (biased) {
        group.gate_bias = gate_bias.data();
        group.up_bias = up_bias.data();
        group.down_bias = down_bias.data();
      }
      std::vector<float> want(3 * kModel), got(3 * kModel);
      backend->expert_ffn(in, {&group, 1}, unit, {want.data(), 3, kModel, kModel});

      FfnInputs inputs(*backend, unit);
      const FfnInputs::Pair p = inputs.of(group, in);
      ASSERT_EQ(p.in.rows, 3);
      for (int r = 0; r < 3; r++)
        EXPECT_EQ(
            std::memcmp(p.in.row(r), in.row(rows[static_cast<size_t>(r)]), kModel * sizeof(float)),
            0);
      const LinearOut out{down.weight, group.down_bias, {got.data(), 3, kModel, kModel}};
      backend->linear(p.hidden, {&out, 1});
      for (size_t i = 0; i < want.size(); i++)
        EXPECT_NEAR(got[i], want[i], 1e-4f * (1 + std::abs(want[i])))
            << static_cast<int>(unit) << " bias " << biased << " at " << i;
    }
  }
}

struct Counting : LinearObserver, ExpertObserver {
  int n_calls = 0;
  void attention_in(int, Mat) override { n_calls++; }
  void attention_out(int, Mat) override { n_calls++; }
  void ffn(int, const ExpertGroup&, Mat) override { n_calls++; }
  void saw(ExpertKey, const ExpertGroup&, Mat) override { n_calls++; }
};

std::unique_ptr<ModelSession> small_model() {
  SessionOptions options;
  options.path = std::string(HOB_TEST_DATA) + "/model/olmoe.gguf";
  options.n_threads = 2;
  options.n_ctx = 64;
  options.pack = "none";
  options.max_logit_rows = kCalibrationRows;
  return ModelSession::load(plan_model(options), {});
}

TEST(ObservedRun, StoppedHalfWayLeavesNothingBehind) {
  const std::unique_ptr<ModelSession> session = small_model();
  const int n_free = session->engine().kv().n_free_blocks();
  const std::vector<int32_t> tokens(200, 5);
  Counting seen;
  const auto stop_in_the_second_window = [&](uint64_t done, uint64_t) {
    if (done > 64) throw Error(Code::kCancelled, "enough");
  };
  EXPECT_THROW(run_observed(*session, tokens, &seen, &seen, stop_in_the_second_window), Error);
  EXPECT_GT(seen.n_calls, 0);
  EXPECT_EQ(session->engine().kv().n_free_blocks(), n_free);

  // Nobody looks on any more.
  const int before = seen.n_calls;
  Engine& engine = session->engine();
  const int seq = engine.open();
  engine.feed(seq, std::span(tokens).first(8), 1);
  while (engine.step([](int, int, std::span<const float>) {})) {
  }
  engine.close(seq);
  EXPECT_EQ(seen.n_calls, before);
}

TEST(ObservedRun, AllTokensOfAllWindowsAreSeenOnce) {
  struct Rows : LinearObserver {
    int n = 0;
    void attention_in(int layer, Mat x) override { n += layer == 0 ? x.rows : 0; }
    void attention_out(int, Mat) override {}
    void ffn(int, const ExpertGroup&, Mat) override {}
  } rows;
  const std::unique_ptr<ModelSession> session = small_model();
  const std::vector<int32_t> tokens(150, 5);  // two windows and a piece
  uint64_t last = 0;
  run_observed(*session, tokens, &rows, nullptr, [&](uint64_t done, uint64_t all) {
    EXPECT_EQ(all, 150u);
    EXPECT_GT(done, last);
    last = done;
  });
  EXPECT_EQ(rows.n, 150);
  EXPECT_EQ(last, 150u);
}

}  // namespace
}  // namespace hob
