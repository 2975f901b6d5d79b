#include "engine/hit_simulator.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/uniform_routing.h"

namespace hob {
namespace {

CacheShape shape(int n_layers, int n_experts, int n_slots, const std::string& policy) {
  CacheShape s;
  for (int i = 0; i < n_layers; i++) s.moe_layers.push_back(i);
  s.n_experts = n_experts;
  s.n_slots = n_slots;
  s.policy = policy;
  return s;
}

TEST(UniformRouting, DistinctEvenAndRepeatable) {
  UniformRouting routing(16, 4);
  std::vector<int> counts(16);
  for (int p = 0; p < 4000; p++) {
    const StepRow row{.token = 1, .position = p, .seq = 0, .kv_write_slot = 0, .kv_read = {}};
    int32_t ids[4], again[4];
    float weights[4];
    routing.route(3, {&row, 1}, ids, weights);
    routing.route(3, {&row, 1}, again, weights);
    EXPECT_TRUE(std::equal(ids, ids + 4, again));
    EXPECT_EQ(std::set<int32_t>(ids, ids + 4).size(), 4u);
    for (int32_t id : ids) counts[static_cast<size_t>(id)]++;
    EXPECT_FLOAT_EQ(weights[0] + weights[1] + weights[2] + weights[3], 1.f);
  }
  for (int c : counts) EXPECT_NEAR(c, 1000, 130);  // about four and a half standard deviations
}

// Whatever the policy, even routing hits with the share of experts that fit.
TEST(HitSimulator, UniformRoutingHitsWithTheCachedShare) {
  UniformRouting routing(64, 8);
  for (const char* policy : {"lru", "ewma", "ewma-layer"})
    for (double share : {0.25, 0.5, 0.75}) {
      const CacheShape s = shape(8, 64, static_cast<int>(share * 512), policy);
      EXPECT_NEAR(simulate_decode_hits(routing, s, 300), share, 0.04) << policy;
    }
}

TEST(HitSimulator, EverythingFits) {
  UniformRouting routing(8, 2);
  EXPECT_EQ(simulate_decode_hits(routing, shape(4, 8, 32, "ewma"), 200), 1.0);
}

// Token t uses expert t mod 4: LRU with three slots evicts just what comes next, with four it never
// misses.
class Cycle : public RouteOverride {
 public:
  int top_k() const override { return 1; }
  void route(int, std::span<const StepRow> rows, int32_t* ids, float* weights) override {
    for (size_t i = 0; i < rows.size(); i++) {
      ids[i] = rows[i].position % 4;
      weights[i] = 1;
    }
  }
};

TEST(HitSimulator, LruOnACycle) {
  Cycle cycle;
  EXPECT_EQ(simulate_decode_hits(cycle, shape(1, 4, 3, "lru"), 100), 0.0);
  EXPECT_EQ(simulate_decode_hits(cycle, shape(1, 4, 4, "lru"), 100), 1.0);
}

}  // namespace
}  // namespace hob
