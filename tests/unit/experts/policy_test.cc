#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "base/error.h"
#include "experts/policies/belady.h"
#include "experts/policy_table.h"
#include "unit/experts/policy_twins.h"

namespace hob {
namespace {

PolicyShape layers(int n_layers, int n_per_layer, int n_slots = 0) {
  PolicyShape shape;
  shape.n_layers = n_layers;
  shape.n_slots = n_slots;
  for (int i = 0; i < n_layers * n_per_layer; i++) shape.layer_of.push_back(i / n_per_layer);
  return shape;
}

std::unique_ptr<ExpertPolicy> policy(std::string_view spec, int n_experts) {
  return make_policy(spec, layers(1, n_experts));
}

void allow(ExpertPolicy& p, std::initializer_list<int> copies, bool evictable = true) {
  for (const int c : copies) p.set_evictable(c, evictable);
}

void use(ExpertPolicy& p, int expert, int64_t step) { p.on_use(expert, Precision::kHigh, step); }

int victim(ExpertPolicy& p, int64_t step = 0, int layer = 0) {
  return p.choose_victim({.pool = Precision::kHigh, .layer = layer, .step = step});
}

std::string error_of(std::string_view spec) {
  try {
    check_policy(spec);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInvalidArgument);
    return e.what();
  }
  return "";
}

TEST(PolicyTable, UnknownNameListsTheKnownOnes) {
  const std::string text = error_of("belady");
  for (const PolicyRow& row : policy_table())
    EXPECT_NE(text.find(row.name), std::string::npos) << text;
  EXPECT_NE(text.find("belady"), std::string::npos);
}

TEST(PolicyTable, RowsMakeWhatTheySay) {
  for (const PolicyRow& row : policy_table()) EXPECT_EQ(policy(row.name, 4)->name(), row.name);
}

TEST(PolicyTable, Arguments) {
  EXPECT_EQ(error_of("hobbit:0.4,0.2,0.2,0.2"), "");
  EXPECT_EQ(error_of("hobbit:1,0,0,0"), "");
  EXPECT_EQ(error_of("static-pin:0.25"), "");
  EXPECT_EQ(error_of("random:7"), "");
  for (const char* bad :
       {"hobbit:1,2,3", "hobbit:1,2,3,4,5", "hobbit:1,2,3,", "hobbit:1,2,3,4,", "hobbit:a,1,1,1",
        "hobbit:nan,1,1,1", "hobbit:inf,1,1,1", "hobbit:-1,1,1,1", "hobbit:0,0,0,0"})
    EXPECT_NE(error_of(bad).find("four weights"), std::string::npos) << bad;
  for (const char* bad : {"static-pin:2", "static-pin:x", "static-pin:nan"})
    EXPECT_NE(error_of(bad).find("share"), std::string::npos) << bad;
  EXPECT_NE(error_of("random:x").find("seed"), std::string::npos);
  EXPECT_NE(error_of("lru:1").find("no argument"), std::string::npos);
  EXPECT_NE(error_of("").find("expected one of"), std::string::npos);
}

// --- every policy against its definition ---

constexpr int kLayers = 4, kPerLayer = 6, kExperts = kLayers * kPerLayer;

class Simulation {
 public:
  explicit Simulation(const std::string& spec, uint32_t seed)
      : policy_(make_policy(spec, layers(kLayers, kPerLayer, kExperts / 2))),
        evictable_(2 * kExperts, false),
        rng_(seed) {
    history_.shape = layers(kLayers, kPerLayer, kExperts / 2);
  }

  void pass(int64_t step) {
    for (int layer = 0; layer < kLayers; layer++) {
      for (int e = 0; e < kPerLayer; e++) {
        // Later experts are rarer.
        if (static_cast<int>(rng_() % 7) < e) continue;
        const int expert = layer * kPerLayer + e;
        const Precision used = rng_() % 4 ? Precision::kHigh : Precision::kLow;
        policy_->on_use(expert, used, step);
        history_.sequences.back().push_back({expert, used, step});
      }
      for (int i = 0; i < 6; i++) toggle(static_cast<int>(rng_() % (2 * kExperts)));
      requests_.push_back(
          {.pool = rng_() % 3 ? Precision::kHigh : Precision::kLow, .layer = layer, .step = step});
      check_(requests_.back());
    }
  }
  void new_sequence() {
    policy_->on_sequence_start();
    history_.sequences.emplace_back();
  }
  void expect(std::function<void(const EvictionRequest&)> check) { check_ = std::move(check); }

  void toggle(int copy) {
    const auto i = static_cast<size_t>(copy);
    evictable_[i] = !evictable_[i];
    if (evictable_[i]) {
      policy_->on_load(copy);
      history_.loads.push_back(copy);
    }
    policy_->set_evictable(copy, evictable_[i]);
  }
  std::vector<int> candidates(Precision pool) const {
    std::vector<int> list;
    for (int c = 0; c < 2 * kExperts; c++)
      if (evictable_[static_cast<size_t>(c)] && history_.is_low(c) == (pool == Precision::kLow))
        list.push_back(c);
    return list;
  }
  ExpertPolicy& policy() { return *policy_; }
  const History& history() const { return history_; }

 private:
  std::unique_ptr<ExpertPolicy> policy_;
  History history_;
  std::vector<bool> evictable_;
  std::mt19937 rng_;
  std::vector<EvictionRequest> requests_;
  std::function<void(const EvictionRequest&)> check_;
};

bool not_larger(const TwinValue& a, const TwinValue& b) {
  constexpr double kTolerance = 1e-9;
  if (a.first == b.first || std::abs(a.first - b.first) <= kTolerance * std::abs(b.first))
    return a.second <= b.second;
  return a.first < b.first;
}

class PolicyTwin : public testing::TestWithParam<TwinRow> {};

TEST_P(PolicyTwin, ChoosesTheSmallest) {
  const TwinRow& twin = GetParam();
  for (uint32_t seed = 1; seed <= 3; seed++) {
    Simulation sim(twin.policy, seed);
    sim.expect([&](const EvictionRequest& r) {
      const std::vector<int> candidates = sim.candidates(r.pool);
      const int chosen = sim.policy().choose_victim(r);
      if (candidates.empty()) {
        ASSERT_EQ(chosen, -1);
        return;
      }
      ASSERT_TRUE(std::count(candidates.begin(), candidates.end(), chosen)) << chosen;
      const TwinValue value = twin.value(sim.history(), chosen, r);
      for (const int c : candidates)
        ASSERT_TRUE(not_larger(value, twin.value(sim.history(), c, r)))
            << twin.policy << " step " << r.step << " layer " << r.layer << ": " << chosen << " "
            << value.first << "," << value.second << " but " << c << " "
            << twin.value(sim.history(), c, r).first << ","
            << twin.value(sim.history(), c, r).second;
    });
    for (int64_t step = 0; step < 90 && !HasFatalFailure(); step++) {
      if (step % 25 == 24) sim.new_sequence();
      sim.pass(step < 60 ? step : step + 3);  // steps may be missing: others' tokens
    }
  }
}

std::string twin_name(const testing::TestParamInfo<TwinRow>& row) {
  std::string name = row.param.policy;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(All, PolicyTwin, testing::ValuesIn(policy_twins()), twin_name);

TEST(Policies, EachHasATwin) {
  for (const PolicyRow& row : policy_table()) {
    const bool has = std::any_of(policy_twins().begin(), policy_twins().end(),
                                 [&](const TwinRow& t) { return t.policy == row.name; });
    EXPECT_EQ(has, row.name != "random") << row.name;
  }
}

TEST(Policies, NeverChooseAForbiddenCopy) {
  for (const PolicyRow& row : policy_table()) {
    Simulation sim(std::string(row.name), 17);
    sim.expect([&](const EvictionRequest& r) {
      const std::vector<int> candidates = sim.candidates(r.pool);
      for (int i = 0; i < 3; i++) {
        const int chosen = sim.policy().choose_victim(r);
        if (candidates.empty())
          ASSERT_EQ(chosen, -1) << row.name;
        else
          ASSERT_TRUE(std::count(candidates.begin(), candidates.end(), chosen)) << row.name;
      }
    });
    for (int64_t step = 0; step < 300; step++) {
      if (step % 40 == 39) sim.new_sequence();
      sim.pass(step);
    }
  }
}

// --- single policies ---

TEST(Lru, EvictsTheOldestUse) {
  auto p = policy("lru", 4);
  for (int e : {2, 0, 3, 1, 2}) use(*p, e, 0);
  allow(*p, {0, 1, 2, 3});
  EXPECT_EQ(victim(*p), 0);
  allow(*p, {0}, false);
  EXPECT_EQ(victim(*p), 3);
}

TEST(Lru, NeverUsedGoesFirst) {
  auto p = policy("lru", 3);
  use(*p, 0, 0);
  use(*p, 2, 0);
  allow(*p, {0, 1, 2});
  EXPECT_EQ(victim(*p), 1);
}

TEST(Ewma, FrequentBeatsRecent) {
  auto p = policy("ewma", 2);
  for (int step = 0; step < 5; step++) use(*p, 0, step);
  use(*p, 1, 5);
  allow(*p, {0, 1});
  EXPECT_EQ(victim(*p, 5), 1);
}

TEST(Ewma, OldFrequencyFades) {
  auto p = policy("ewma", 2);
  for (int step = 0; step < 50; step++) use(*p, 0, step);  // score -> 10
  const int much_later = 49 + 30;                          // 10 * .9^30 = .42 < 1
  use(*p, 1, much_later);
  allow(*p, {0, 1});
  EXPECT_EQ(victim(*p, much_later), 0);
}

TEST(Ewma, TieGoesToTheOlderUse) {
  auto p = policy("ewma", 3);
  for (int e : {1, 2, 0}) use(*p, e, 7);  // same step, same score
  allow(*p, {0, 1, 2});
  EXPECT_EQ(victim(*p, 7), 1);
}

TEST(Ewma, StillExactAfterManySteps) {
  auto p = policy("ewma", 2);
  const int64_t late = 1'000'000'000;
  allow(*p, {0, 1});
  use(*p, 0, late);
  use(*p, 1, late + 1);
  EXPECT_EQ(victim(*p, late + 1), 0);
  use(*p, 0, late + 2);  // 0: 1 + .81, 1: .9
  EXPECT_EQ(victim(*p, late + 2), 1);
}

// Long enough to divide the weights down twice.
TEST(EwmaLayer, StillExactAfterManySteps) {
  auto p = policy("ewma-layer", 3);
  allow(*p, {0, 1});
  use(*p, 2, 0);
  for (int64_t step = 1; step < 9000; step++) {
    use(*p, static_cast<int>(step % 2), step);
    // The one that was not just used has a share of .9 of the other's.
    ASSERT_EQ(victim(*p, step), 1 - step % 2) << step;
  }
}

// Every step uses all experts, layer by layer: each (layer, expert) once. Returns the hits of the
// last step as a share; `n_slots` of the n_layers * n_per_layer experts fit.
double scan_hits(std::string_view name, int n_layers, int n_per_layer, int n_slots) {
  auto p = make_policy(name, layers(n_layers, n_per_layer, n_slots));
  std::vector<bool> cached(static_cast<size_t>(n_layers * n_per_layer), false);
  int hits = 0, used = 0;
  for (int step = 0; step < 20; step++) {
    hits = 0;
    for (int e = 0; e < n_layers * n_per_layer; e++) {
      use(*p, e, step);
      if (cached[static_cast<size_t>(e)]) {
        hits++;
        continue;
      }
      if (used == n_slots) {
        const int v = victim(*p, step, e / n_per_layer);
        cached[static_cast<size_t>(v)] = false;
        p->set_evictable(v, false);
        used--;
      }
      cached[static_cast<size_t>(e)] = true;
      used++;
      p->on_load(e);
      p->set_evictable(e, true);
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

TEST(Hobbit, WeightsDecide) {
  // Expert 0: often, long ago. Expert 1: once, just now.
  for (const auto& [spec, expected] :
       std::map<std::string, int>{{"hobbit:1,0,0,0", 0}, {"hobbit:0,1,0,0", 1}}) {
    auto p = policy(spec, 2);
    for (int step = 0; step < 5; step++) use(*p, 0, step);
    use(*p, 1, 9);
    allow(*p, {0, 1});
    EXPECT_EQ(victim(*p, 9), expected) << spec;
  }
}

TEST(Hobbit, ANewSequenceForgets) {
  auto p = policy("hobbit", 2);
  for (int step = 0; step < 5; step++) use(*p, 0, step);
  p->on_sequence_start();
  use(*p, 1, 6);
  allow(*p, {0, 1});
  EXPECT_EQ(victim(*p, 6), 0);
}

TEST(Random, EveryCandidateEquallyOften) {
  auto p = policy("random:5", 8);
  allow(*p, {1, 2, 5, 7});
  std::map<int, int> counts;
  for (int i = 0; i < 4000; i++) counts[victim(*p)]++;
  EXPECT_EQ(counts.size(), 4u);
  for (const auto& [copy, n] : counts) EXPECT_NEAR(n, 1000, 130) << copy;  // 4.7 sigma
}

TEST(Random, TheSeedDecides) {
  const auto draw = [](const char* spec) {
    auto p = policy(spec, 100);
    for (int c = 0; c < 100; c++) p->set_evictable(c, true);
    std::vector<int> list;
    for (int i = 0; i < 20; i++) list.push_back(victim(*p));
    return list;
  };
  EXPECT_EQ(draw("random:1"), draw("random"));
  EXPECT_NE(draw("random:1"), draw("random:2"));
}

TEST(StaticPin, PinnedGoLast) {
  auto p = make_policy("static-pin:0.5", layers(1, 4, 4));
  for (int step = 0; step < 32; step++) use(*p, step % 2, step);  // 0 and 1 are learnt
  use(*p, 2, 40);
  use(*p, 3, 41);
  allow(*p, {0, 1, 2, 3});
  EXPECT_EQ(victim(*p, 41), 2);
  allow(*p, {2, 3}, false);
  EXPECT_EQ(victim(*p, 41), 0);
}

TEST(Activation, ThePastSequenceThatMatchesPredicts) {
  // Two kinds of sequence on two layers: 0 then 4, or 1 then 5.
  auto p = make_policy("activation", layers(2, 4));
  int64_t step = 0;
  const auto sequence = [&](int first, int second) {
    p->on_sequence_start();
    for (int i = 0; i < 10; i++, step++) {
      use(*p, first, step);
      use(*p, second, step);
    }
  };
  sequence(0, 4);
  sequence(1, 5);
  p->on_sequence_start();
  use(*p, 0, step);  // resembles the first kind from the next pass on
  use(*p, 0, ++step);
  allow(*p, {4, 5});
  EXPECT_EQ(victim(*p, step), 5);
  p->on_sequence_start();
  use(*p, 1, ++step);
  use(*p, 1, ++step);
  EXPECT_EQ(victim(*p, step), 4);
}

TEST(Belady, TheFarthestNextUseGoes) {
  auto p = make_belady_policy(layers(1, 4), {{0, 5}, {1, 3}, {2, 9}, {4}});
  allow(*p, {0, 1, 2, 3});
  use(*p, 0, 0);
  use(*p, 1, 1);
  use(*p, 2, 2);
  EXPECT_EQ(victim(*p, 2), 2);  // 9
  allow(*p, {2}, false);
  EXPECT_EQ(victim(*p, 2), 0);  // 5
  use(*p, 1, 3);
  EXPECT_EQ(victim(*p, 3), 1);  // never again
}

TEST(Belady, WithinAStepTheLaterLayerIsFarther) {
  auto p = make_belady_policy(layers(2, 1), {{0, 1}, {0, 1}});
  allow(*p, {0, 1});
  use(*p, 0, 0);
  use(*p, 1, 0);
  EXPECT_EQ(victim(*p, 0, 1), 1);
}

}  // namespace
}  // namespace hob
