#include "engine/speed_model.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

// 100 MB dense at 10 GB/s = 10 ms; 16 layers x 8 experts x 1 MB = 128 MB at 10 GB/s = 12.8 ms; disk
// 1 GB/s.
SpeedInput example() {
  SpeedInput in;
  in.dense = {{100'000'000, 200'000'000, 1e10, 1e11}};
  in.experts = {128'000'000, 256'000'000, 1e10, 1e11};
  in.expert_bytes = 1'000'000;
  in.n_moe_layers = 16;
  in.n_experts = 64;
  in.top_k = 8;
  in.chunk = 512;
  in.ram_bytes_per_s = 2e10;
  in.disk_bytes_per_s = 1e9;
  return in;
}

TEST(SpeedModel, Resident) {
  const SpeedEstimate e = predict_speed(example(), 0);
  EXPECT_EQ(e.hit_rate, 1);
  EXPECT_EQ(e.disk_bytes_per_tok, 0);
  EXPECT_NEAR(e.decode_tok_s, 1 / 0.0228, 0.01);
  EXPECT_NEAR(e.prefill_tok_s, 512 / (512 * 456e6 / 1e11), 0.1);
}

TEST(SpeedModel, DiskBindsWhenItIsSlowerThanTheProducts) {
  SpeedInput in = example();
  in.cached_share = 0.5;
  const SpeedEstimate e = predict_speed(in, 0);
  EXPECT_EQ(e.hit_rate, 0.5);
  EXPECT_NEAR(e.disk_bytes_per_tok, 64e6, 1);
  EXPECT_NEAR(e.decode_tok_s, 1 / (0.010 + 0.064), 0.01);
  in.cached_share = 0.95;  // 6.4 ms of reads hide behind 12.8 ms of products
  EXPECT_NEAR(predict_speed(in, 0).decode_tok_s, 1 / 0.0228, 0.01);
}

TEST(SpeedModel, TraceOverridesUniformRouting) {
  SpeedInput in = example();
  in.cached_share = 0.5;
  in.hit_rate = 0.75;
  EXPECT_NEAR(predict_speed(in, 0).disk_bytes_per_tok, 32e6, 1);
}

TEST(SpeedModel, DepthCostsBandwidth) {
  SpeedInput in = example();
  in.kv_bytes_per_tok = 131072;
  EXPECT_NEAR(1 / predict_speed(in, 4096).decode_tok_s - 1 / predict_speed(in, 0).decode_tok_s,
              4096 * 131072 / 2e10, 1e-6);
}

TEST(SpeedModel, DenseModel) {
  SpeedInput in = example();
  in.experts = {};
  in.n_experts = in.n_moe_layers = in.top_k = 0;
  in.cached_share = 0;
  const SpeedEstimate e = predict_speed(in, 0);
  EXPECT_EQ(e.hit_rate, 1);
  EXPECT_NEAR(e.decode_tok_s, 100, 0.01);
}

TEST(SpeedModel, Union) {
  EXPECT_DOUBLE_EQ(expected_union(64, 8, 1), 8);
  EXPECT_NEAR(expected_union(64, 8, 2), 15, 1e-9);  // 16 less the expected overlap of one
  EXPECT_NEAR(expected_union(64, 8, 512), 64, 1e-9);
  EXPECT_EQ(expected_union(0, 0, 9), 0);
}

}  // namespace
}  // namespace hob
