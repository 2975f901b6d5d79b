// Bytes and multiply-adds against numbers worked out by hand.
#include "engine/roofline.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

const StageWork& at(const Work& w, Stage s) { return w[static_cast<size_t>(s)]; }

// Two layers; 2 query heads of 4 + 4 over one KV head.
ModelLayout tiny_layout() {
  ModelLayout layout;
  layout.spec.n_layers = 2;
  layout.spec.attn = {.n_heads = 2, .n_kv_heads = 1, .d_k = 4, .d_v = 4};
  const LayerWork layer = {.qkv = {.bytes = 100, .n_quantised = 1000},
                           .o = {.bytes = 50, .n_quantised = 500},
                           .ffn = {.bytes = 300, .n_quantised = 0, .n_float = 200},
                           .router = {},
                           .expert = {}};
  layout.work = {layer, layer};
  layout.head = {.bytes = 7, .n_quantised = 70};
  return layout;
}

// One step: prompts of 3 and 2 tokens, one row of logits that sees 3 positions.
constexpr WorkCounts kPrefill = {.n_steps = 1,
                                 .n_logit_steps = 1,
                                 .n_rows = 5,
                                 .n_logit_rows = 1,
                                 .n_visible = 1 + 2 + 3 + 1 + 2,
                                 .n_logit_visible = 3,
                                 .n_context = 3 + 2,
                                 .n_logit_context = 3,
                                 .n_choices = 0};

TEST(Roofline, WorkOfADensePrefill) {
  const Work w = work_of(tiny_layout(), KvType::kF16, kPrefill, {});
  EXPECT_EQ(at(w, Stage::kProjections).bytes, 2 * (100 + 50));
  // q, k, v of every row in both layers; the output product of every row in the first layer, of one
  // row in the last.
  EXPECT_EQ(at(w, Stage::kProjections).dot_macs, 2 * 5 * 1000 + 5 * 500 + 1 * 500);
  EXPECT_EQ(at(w, Stage::kDenseFfn).bytes, 2 * 300);
  EXPECT_EQ(at(w, Stage::kDenseFfn).fma_macs, (5 + 1) * 200);
  EXPECT_EQ(at(w, Stage::kDenseFfn).dot_macs, 0);
  // 8 elements of 2 bytes per position; 2 heads x (4 + 4) products per (row, position).
  EXPECT_EQ(at(w, Stage::kAttention).bytes, 16 * (5 + 3));
  EXPECT_EQ(at(w, Stage::kAttention).fma_macs, 16 * (9 + 3));
  EXPECT_EQ(at(w, Stage::kHead).bytes, 7);
  EXPECT_EQ(at(w, Stage::kHead).dot_macs, 70);
  EXPECT_EQ(at(w, Stage::kExperts).bytes, 0);
}

TEST(Roofline, AStepWithoutLogitsSkipsTheEndOfTheLastLayer) {
  const WorkCounts counts = {.n_steps = 2, .n_rows = 8, .n_visible = 36, .n_context = 12};
  const Work w = work_of(tiny_layout(), KvType::kF32, counts, {});
  EXPECT_EQ(at(w, Stage::kProjections).bytes, 2 * (2 * 100 + 50));
  EXPECT_EQ(at(w, Stage::kProjections).dot_macs, 8 * (2 * 1000 + 500));
  EXPECT_EQ(at(w, Stage::kDenseFfn).bytes, 2 * 300);
  EXPECT_EQ(at(w, Stage::kAttention).bytes, 12 * 8 * 4);
  EXPECT_EQ(at(w, Stage::kHead).bytes, 0);
}

TEST(Roofline, WorkOfAMoeDecode) {
  ModelLayout layout = tiny_layout();
  layout.spec.moe.n_experts = 8;
  layout.spec.moe.top_k = 2;
  for (LayerWork& l : layout.work) {
    l.ffn = {};
    l.router = {.bytes = 20, .n_quantised = 0, .n_float = 40};
  }
  layout.work[0].expert = {.bytes = 600, .n_quantised = 6000};
  layout.work[1].expert = {.bytes = 800, .n_quantised = 6000};
  // Ten steps of one row, two experts in each of two layers.
  const WorkCounts counts = {.n_steps = 10,
                             .n_logit_steps = 10,
                             .n_rows = 10,
                             .n_logit_rows = 10,
                             .n_visible = 10,
                             .n_logit_visible = 10,
                             .n_context = 10,
                             .n_logit_context = 10,
                             .n_choices = 40};
  const Work w = work_of(layout, KvType::kF16, counts, {.n = 40});
  EXPECT_EQ(at(w, Stage::kExperts).bytes, 10 * 2 * 20 + 40 * 700);
  EXPECT_EQ(at(w, Stage::kExperts).dot_macs, 40 * 6000);
  EXPECT_EQ(at(w, Stage::kExperts).fma_macs, 10 * 2 * 40);
  EXPECT_EQ(at(w, Stage::kDenseFfn).bytes, 0);

  // A quarter of the uses were low copies: 3 matrices of 4 rows of 64 weights, 12 bytes per 32.
  layout.experts.low.resize(2);
  for (ExpertLayer& l : layout.experts.low)
    for (ExpertMatrix& part : l.parts) {
      part.dtype = DType::kQ2_1;
      part.rows = 4;
      part.cols = 64;
    }
  const Work mixed = work_of(layout, KvType::kF16, counts, {.n = 40, .n_low = 10});
  EXPECT_EQ(at(mixed, Stage::kExperts).bytes, 10 * 2 * 20 + 30 * 700 + 10 * 3 * 4 * 24);
  EXPECT_EQ(at(mixed, Stage::kExperts).dot_macs, 40 * 6000);
}

TEST(Roofline, RatesAndShares) {
  Work work{};
  work[static_cast<size_t>(Stage::kExperts)] = {.bytes = 6e9, .dot_macs = 50e9, .fma_macs = 0};
  work[static_cast<size_t>(Stage::kAttention)] = {.bytes = 1e9, .dot_macs = 0, .fma_macs = 4e9};
  StageTimes times;
  times[Stage::kExperts] = 500'000'000;
  times[Stage::kAttention] = 200'000'000;
  times[Stage::kOther] = 100'000'000;
  const MachinePeaks peaks = {.ram_bytes_per_s = 20e9,
                              .dot_macs_per_s = 200e9,
                              .fma_macs_per_s = 40e9,
                              .disk_bytes_per_s = 0};
  const Roofline r = roofline(work, times, 1.0, peaks);
  const StageRate& experts = r.stages[static_cast<size_t>(Stage::kExperts)];
  EXPECT_DOUBLE_EQ(experts.time_share, 0.5);
  EXPECT_DOUBLE_EQ(experts.bytes_per_s, 12e9);
  EXPECT_DOUBLE_EQ(experts.ram_share, 0.6);
  EXPECT_DOUBLE_EQ(experts.ops_per_s, 200e9);
  EXPECT_DOUBLE_EQ(experts.compute_share, 0.5);
  EXPECT_DOUBLE_EQ(r.stages[static_cast<size_t>(Stage::kAttention)].compute_share, 0.5);
  // 0.2 s that no stage accounts for join the 0.1 s of kOther.
  EXPECT_NEAR(r.stages[static_cast<size_t>(Stage::kOther)].time_share, 0.3, 1e-9);
  EXPECT_DOUBLE_EQ(r.total.bytes_per_s, 7e9);
  EXPECT_DOUBLE_EQ(r.total.ram_share, 0.35);
  EXPECT_DOUBLE_EQ(r.total.compute_share, 0.25 + 0.1);
  EXPECT_EQ(r.stages[static_cast<size_t>(Stage::kHead)].bytes_per_s, 0);
}

}  // namespace
}  // namespace hob
