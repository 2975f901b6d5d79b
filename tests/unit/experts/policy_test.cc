#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "experts/policy_table.h"

namespace hob {
namespace {

// Slots hold experts 0..n-1, all evictable.
struct Slots {
  explicit Slots(int n) : evictable(static_cast<size_t>(n), 1) {
    for (int i = 0; i < n; i++) expert_of_slot.push_back(i);
  }
  int victim(const ExpertPolicy& policy, int64_t step = 0) const {
    return policy.choose_victim(
        {.expert_of_slot = expert_of_slot, .evictable = evictable, .layer = 0, .step = step});
  }
  std::vector<int32_t> expert_of_slot;
  std::vector<uint8_t> evictable;
};

std::unique_ptr<ExpertPolicy> policy(std::string_view name, int n_experts) {
  return make_policy(name, {1, std::vector<int32_t>(static_cast<size_t>(n_experts), 0)});
}

TEST(PolicyTable, UnknownNameListsTheKnownOnes) {
  try {
    policy("belady", 4);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInvalidArgument);
    const std::string text = e.what();
    for (const PolicyRow& row : policy_table())
      EXPECT_NE(text.find(row.name), std::string::npos) << text;
    EXPECT_NE(text.find("belady"), std::string::npos);
  }
}

TEST(PolicyTable, RowsMakeWhatTheySay) {
  for (const PolicyRow& row : policy_table()) EXPECT_EQ(policy(row.name, 4)->name(), row.name);
}

TEST(Policies, NeverChooseAForbiddenSlot) {
  for (const PolicyRow& row : policy_table()) {
    auto p = policy(row.name, 8);
    std::mt19937 rng(3);
    for (int step = 0; step < 500; step++) {
      p->on_use(static_cast<int>(rng() % 8), step);
      Slots slots(8);
      for (auto& e : slots.evictable) e = rng() % 3 == 0;
      const int victim = slots.victim(*p, step);
      if (victim < 0)
        EXPECT_EQ(std::count(slots.evictable.begin(), slots.evictable.end(), 1), 0);
      else
        EXPECT_EQ(slots.evictable[static_cast<size_t>(victim)], 1);
    }
  }
}

TEST(Lru, EvictsTheOldestUse) {
  auto p = policy("lru", 4);
  for (int e : {2, 0, 3, 1, 2}) p->on_use(e, 0);
  Slots slots(4);
  EXPECT_EQ(slots.victim(*p), 0);
  slots.evictable[0] = 0;
  EXPECT_EQ(slots.victim(*p), 3);
}

TEST(Lru, NeverUsedGoesFirst) {
  auto p = policy("lru", 3);
  p->on_use(0, 0);
  p->on_use(2, 0);
  EXPECT_EQ(Slots(3).victim(*p), 1);
}

TEST(Ewma, FrequentBeatsRecent) {
  auto p = policy("ewma", 2);
  for (int step = 0; step < 5; step++) p->on_use(0, step);
  p->on_use(1, 5);
  EXPECT_EQ(Slots(2).victim(*p, 5), 1);
}

TEST(Ewma, OldFrequencyFades) {
  auto p = policy("ewma", 2);
  for (int step = 0; step < 50; step++) p->on_use(0, step);  // score -> 10
  const int much_later = 49 + 30;                            // 10 * .9^30 = .42 < 1
  p->on_use(1, much_later);
  EXPECT_EQ(Slots(2).victim(*p, much_later), 0);
}

TEST(Ewma, TieGoesToTheOlderUse) {
  auto p = policy("ewma", 3);
  for (int e : {1, 2, 0}) p->on_use(e, 7);  // same step, same score
  EXPECT_EQ(Slots(3).victim(*p, 7), 1);
}

// Against the definition, summed directly.
TEST(Ewma, RanksAsTheDefinition) {
  constexpr int kExperts = 20;
  auto p = policy("ewma", kExperts);
  std::mt19937 rng(11);
  std::vector<double> score(kExperts, 0.0);
  for (int step = 0; step < 2000; step++) {
    for (double& s : score) s *= 0.9;
    for (int i = 0; i < 3; i++) {
      const int e = static_cast<int>(std::min(rng() % kExperts, rng() % kExperts));
      p->on_use(e, step);
      score[static_cast<size_t>(e)] += 1;
    }
    const int victim = Slots(kExperts).victim(*p, step);
    const double least = *std::min_element(score.begin(), score.end());
    ASSERT_NEAR(score[static_cast<size_t>(victim)], least, 1e-9) << "step " << step;
  }
}

TEST(Ewma, StillExactAfterManySteps) {
  auto p = policy("ewma", 2);
  const int64_t late = 1'000'000'000;
  p->on_use(0, late);
  p->on_use(1, late + 1);
  EXPECT_EQ(Slots(2).victim(*p, late + 1), 0);
  p->on_use(0, late + 2);  // 0: 1 + .81, 1: .9
  EXPECT_EQ(Slots(2).victim(*p, late + 2), 1);
}

// Every step uses all experts, layer by layer: each (layer, expert) once. Returns the hits of the
// last step as a share; `n_slots` of the n_layers * n_per_layer experts fit.
double scan_hits(std::string_view name, int n_layers, int n_per_layer, int n_slots) {
  PolicyShape shape{n_layers, {}};
  for (int i = 0; i < n_layers * n_per_layer; i++) shape.layer_of.push_back(i / n_per_layer);
  auto p = make_policy(name, shape);
  Slots slots(n_slots);
  slots.expert_of_slot.assign(static_cast<size_t>(n_slots), -1);
  const auto slot_of = [&](int e) {
    return std::find(slots.expert_of_slot.begin(), slots.expert_of_slot.end(), e);
  };
  int hits = 0;
  for (int step = 0; step < 20; step++) {
    hits = 0;
    for (int e = 0; e < n_layers * n_per_layer; e++) {
      p->on_use(e, step);
      if (slot_of(e) != slots.expert_of_slot.end()) {
        hits++;
        continue;
      }
      auto slot = slot_of(-1);
      if (slot == slots.expert_of_slot.end())
        slot =
            slots.expert_of_slot.begin() + p->choose_victim({.expert_of_slot = slots.expert_of_slot,
                                                             .evictable = slots.evictable,
                                                             .layer = e / n_per_layer,
                                                             .step = step});
      *slot = e;
    }
  }
  return static_cast<double>(hits) / (n_layers * n_per_layer);
}

TEST(EwmaLayer, AScanOverAllLayersHitsWhatFits) {
  EXPECT_EQ(scan_hits("lru", 10, 8, 40), 0.0);
  EXPECT_EQ(scan_hits("ewma", 10, 8, 40), 0.0);
  // One slot takes what the scan brings; a layer is the grain of the distance.
  EXPECT_GE(scan_hits("ewma-layer", 10, 8, 40), (40.0 - 8) / 80);
}

TEST(EwmaLayer, FrequencyDecidesWithinALayer) {
  auto p = policy("ewma-layer", 2);
  for (int step = 0; step < 5; step++) p->on_use(0, step);
  p->on_use(1, 5);
  EXPECT_EQ(Slots(2).victim(*p, 5), 1);
}

TEST(EwmaLayer, NeverUsedGoesFirst) {
  auto p = policy("ewma-layer", 3);
  p->on_use(0, 0);
  p->on_use(2, 0);
  EXPECT_EQ(Slots(3).victim(*p), 1);
}

// Against the definition, summed directly over several layers and long enough to rebase.
TEST(EwmaLayer, ChoosesTheFarthestExpectedUse) {
  constexpr int kLayers = 4, kPerLayer = 6, kExperts = kLayers * kPerLayer;
  PolicyShape shape{kLayers, {}};
  for (int i = 0; i < kExperts; i++) shape.layer_of.push_back(i / kPerLayer);
  auto p = make_policy("ewma-layer", shape);
  std::mt19937 rng(5);
  std::vector<double> used(kExperts, 0.0), visits(kLayers, 0.0);
  for (int step = 0; step < 9000; step++)
    for (int layer = 0; layer < kLayers; layer++) {
      visits[static_cast<size_t>(layer)] = visits[static_cast<size_t>(layer)] * 0.9 + 1;
      for (int e = 0; e < kPerLayer; e++) {
        const int id = layer * kPerLayer + e;
        used[static_cast<size_t>(id)] *= 0.9;
        if (static_cast<int>(rng() % 7) < e) continue;
        p->on_use(id, step);
        used[static_cast<size_t>(id)] += 1;
      }
      if (step < 1 || (step > 50 && step < 4000)) continue;
      const auto time = [&](int id) {
        const int l = id / kPerLayer, way = l > layer ? l - layer : l - layer + kLayers;
        return static_cast<double>(way) / kLayers +
               visits[static_cast<size_t>(l)] / used[static_cast<size_t>(id)];
      };
      Slots slots(kExperts);
      const int victim = p->choose_victim({.expert_of_slot = slots.expert_of_slot,
                                           .evictable = slots.evictable,
                                           .layer = layer,
                                           .step = step});
      double farthest = 0;
      for (int id = 0; id < kExperts; id++) farthest = std::max(farthest, time(id));
      ASSERT_GE(time(victim), farthest * (1 - 1e-9)) << "step " << step;
    }
}

}  // namespace
}  // namespace hob
