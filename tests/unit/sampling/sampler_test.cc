#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "base/error.h"
#include "sampling/philox.h"

namespace hob {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

SamplingParams plain(uint64_t seed = 1) {
  SamplingParams p;
  p.temperature = 1.f;
  p.top_k = 0;
  p.top_p = 1.f;
  p.min_p = 0.f;
  p.seed = seed;
  return p;
}

std::set<int32_t> support(const std::vector<float>& logits, SamplingParams params, int n = 4000,
                          const std::vector<int32_t>& history = {}) {
  std::set<int32_t> seen;
  for (int i = 0; i < n; i++)
    seen.insert(sample(logits, params, history, static_cast<uint32_t>(i)));
  return seen;
}

// Known answers of Random123 (kat_vectors, philox4x32 10).
TEST(Philox, MatchesRandom123) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, LanesEqualSingleCalls) {
  for (uint32_t first : {0u, 64u, 12345u, 0xffffffc0u}) {
    PhiloxLanes lanes;
    philox_lanes({3, 9, first, 0}, {17, 4}, lanes);
    for (uint32_t i = 0; i < kPhiloxLanes; i++) {
      const PhiloxCounter r = philox4x32({3, 9, first + i, 0}, {17, 4});
      ASSERT_EQ(lanes.word0[i], r[0]);
      ASSERT_EQ(lanes.word1[i], r[1]);
    }
  }
}

TEST(Philox, UniformIsInsideTheOpenInterval) {
  double sum = 0;
  for (uint32_t i = 0; i < 20000; i++) {
    const double u = philox_uniform(7, 0, i, i * 3);
    ASSERT_GT(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 20000, 0.5, 4 * std::sqrt(1.0 / 12 / 20000));  // four standard errors
}

TEST(Philox, EveryArgumentMatters) {
  const double u = philox_uniform(1, 2, 3, 4);
  EXPECT_EQ(u, philox_uniform(1, 2, 3, 4));
  for (double other :
       {philox_uniform(2, 2, 3, 4), philox_uniform(uint64_t{1} << 32 | 1, 2, 3, 4),
        philox_uniform(1, 3, 3, 4), philox_uniform(1, 2, 4, 4), philox_uniform(1, 2, 3, 5)})
    EXPECT_NE(u, other);
}

// Gumbel-max samples the softmax exactly: chi-square over positions, at several temperatures.
TEST(Sampler, FollowsTheSoftmax) {
  const std::vector<float> logits = {1.5f, 0.f, -1.f, 2.f, 0.5f, -2.f, 1.f, -0.5f};
  for (float temperature : {0.7f, 1.f, 1.6f}) {
    SamplingParams params = plain(42);
    params.temperature = temperature;
    constexpr int kDraws = 40000;
    std::vector<int> counts(logits.size());
    for (uint32_t i = 0; i < kDraws; i++)
      counts[static_cast<size_t>(sample(logits, params, {}, i))]++;
    double total = 0, chi2 = 0;
    for (float x : logits) total += std::exp(x / temperature);
    for (size_t i = 0; i < logits.size(); i++) {
      const double expected = kDraws * std::exp(logits[i] / temperature) / total;
      chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    EXPECT_LT(chi2, 24.3) << "temperature "
                          << temperature;  // 99.9 % quantile of chi-square with 7 degrees
  }
}

// The rule itself, without the bounds that spare most logarithms.
TEST(Sampler, EqualsThePlainRule) {
  for (uint32_t round = 0; round < 300; round++) {
    SamplingParams params = plain(round);
    params.temperature = std::array{0.01f, 0.3f, 1.f, 3.f, 1e6f}[round % 5];
    std::vector<float> logits(2000);
    for (size_t i = 0; i < logits.size(); i++)
      logits[i] = static_cast<float>(
          std::log(philox_uniform(99, round, static_cast<uint32_t>(i), 0)) * (round % 7) * 3);
    const double best = *std::max_element(logits.begin(), logits.end());
    int32_t token = -1;
    double best_score = 0;
    for (size_t i = 0; i < logits.size(); i++) {
      const double u = philox_uniform(params.seed, 2, round, static_cast<uint32_t>(i));
      const double score = (logits[i] - best) / params.temperature - std::log(-std::log(u));
      if (token >= 0 && score <= best_score) continue;
      best_score = score;
      token = static_cast<int32_t>(i);
    }
    ASSERT_EQ(sample(logits, params, {}, round, 2), token) << round;
  }
}

struct Pair {
  float logit;
  int32_t token;
};

// The slow twin of all filters: everything is sorted, nothing is skipped.
int32_t plain_sample(std::vector<float> logits, const SamplingParams& p,
                     const std::vector<int32_t>& history, uint32_t position) {
  std::vector<int> counts(logits.size());
  for (int32_t t : history) counts[static_cast<size_t>(t)]++;
  std::vector<Pair> sorted;
  for (size_t i = 0; i < logits.size(); i++) {
    float x = logits[i];
    if (counts[i] > 0)
      x = (x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty) -
          (p.presence_penalty + p.frequency_penalty * static_cast<float>(counts[i]));
    if (x > -kInf) sorted.push_back({x, static_cast<int32_t>(i)});
  }
  std::sort(sorted.begin(), sorted.end(), [](const Pair& a, const Pair& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  });
  if (p.temperature == 0) return sorted[0].token;
  if (p.top_k > 0) sorted.resize(std::min(sorted.size(), static_cast<size_t>(p.top_k)));
  const double best = sorted[0].logit;
  double total = 0, sum = 0;
  for (const Pair& c : sorted) total += std::exp(c.logit - best);
  size_t n = 0;
  while (n < sorted.size() && (n == 0 || sum < p.top_p * total))
    sum += std::exp(sorted[n++].logit - best);
  if (p.top_p < 1) sorted.resize(n);
  int32_t token = -1;
  double best_score = 0;
  for (const Pair& c : sorted) {
    if (p.min_p > 0 && c.logit < best + std::log(static_cast<double>(p.min_p))) continue;
    const double u = philox_uniform(p.seed, 0, position, static_cast<uint32_t>(c.token));
    const double score = (c.logit - best) / p.temperature - std::log(-std::log(u));
    if (token >= 0 && (score < best_score || (score == best_score && c.token > token))) continue;
    best_score = score;
    token = c.token;
  }
  return token;
}

TEST(Sampler, EqualsTheSlowTwin) {
  std::mt19937 rng(5);
  const auto below = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  for (uint32_t round = 0; round < 3000; round++) {
    std::vector<float> logits(static_cast<size_t>(1 + below(round % 3 ? 300 : 5000)));
    const bool ties = below(2), masks = below(3) == 0;
    for (float& x : logits) {
      x = ties ? static_cast<float>(below(20)) * 0.5f - 5
               : std::normal_distribution<float>(0, 4)(rng);
      if (masks && below(3)) x = -kInf;
    }
    logits[static_cast<size_t>(below(static_cast<int>(logits.size())))] = 3.f;
    SamplingParams p = plain(round);
    p.temperature = std::array{0.f, 0.3f, 1.f, 2.f}[rng() % 4];
    p.top_k = std::array{0, 1, 5, 40, 400}[rng() % 5];
    // Ties at the border of top_p have no right answer in floating point.
    if (!ties) p.top_p = std::array{0.3f, 0.9f, 1.f}[rng() % 3];
    p.min_p = std::array{0.f, 0.05f}[rng() % 2];
    std::vector<int32_t> history;
    if (below(2)) {
      p.repetition_penalty = 1.3f;
      p.frequency_penalty = 0.1f;
      p.penalty_window = 0;
      for (int i = 0; i < 30; i++) history.push_back(below(static_cast<int>(logits.size())));
    }
    ASSERT_EQ(sample(logits, p, history, round), plain_sample(logits, p, history, round))
        << "round " << round << ", " << logits.size() << " tokens";
  }
}

// Long vocabularies are sorted piece by piece.
TEST(Sampler, TopPOfALongVocabulary) {
  std::vector<float> logits(2000);
  for (size_t i = 0; i < logits.size(); i++)
    logits[(i * 1237) % 2000] = static_cast<float>(i) * 3e-3f;
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  double total = 0;
  for (float x : logits) total += std::exp(static_cast<double>(x));
  for (float top_p : {0.05f, 0.5f, 0.9f}) {
    double sum = 0;
    std::set<int32_t> kept;
    for (size_t n = 0; sum < top_p * total; n++) {
      sum += std::exp(static_cast<double>(logits[order[n]]));
      kept.insert(static_cast<int32_t>(order[n]));
    }
    SamplingParams params = plain();
    params.top_p = top_p;
    params.temperature = 1e6f;  // all that are kept are equally likely
    const std::set<int32_t> seen = support(logits, params, 2000);
    EXPECT_TRUE(std::includes(kept.begin(), kept.end(), seen.begin(), seen.end())) << top_p;
    EXPECT_GT(seen.size(), kept.size() / 2);
  }
}

// The choice index (best-of-n) gives streams that are independent of one another.
TEST(Sampler, ChoicesDiffer) {
  const std::vector<float> logits(64, 0.f);
  int same = 0;
  for (uint32_t i = 0; i < 2000; i++)
    same += sample(logits, plain(), {}, i, 0) == sample(logits, plain(), {}, i, 1);
  EXPECT_NEAR(same / 2000.0, 1.0 / 64, 0.012);
}

TEST(Sampler, SameArgumentsSameToken) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); i++) logits[i] = std::sin(static_cast<float>(i));
  SamplingParams params;
  params.seed = 0xfeedfacecafebeef;
  for (uint32_t i = 0; i < 50; i++)
    EXPECT_EQ(sample(logits, params, {}, i), sample(logits, params, {}, i));
}

TEST(Sampler, GreedyTakesTheBestAndTheLowerIdOnTies) {
  SamplingParams params = plain();
  params.temperature = 0;
  EXPECT_EQ(sample(std::vector<float>{0.f, 3.f, 3.f, -1.f}, params, {}, 0), 1);
}

TEST(Sampler, TopKKeepsKAndBreaksTiesByLowerId) {
  SamplingParams params = plain();
  params.top_k = 3;
  EXPECT_EQ(support({1.f, 0.9f, 0.8f, 1.f, 0.8f}, params), (std::set<int32_t>{0, 1, 3}));
  params.top_k = 4;
  EXPECT_EQ(support({1.f, 0.9f, 0.8f, 1.f, 0.8f}, params), (std::set<int32_t>{0, 1, 2, 3}));
  params.top_k = 1;
  EXPECT_EQ(support({1.f, 2.f, 0.f}, params), (std::set<int32_t>{1}));
  params.top_k = 100;
  EXPECT_EQ(support({1.f, 2.f, 0.f}, params).size(), 3u);
}

TEST(Sampler, TopPKeepsTheSmallestSufficientSet) {
  // Probabilities 0.5, 0.3, 0.15, 0.05.
  const std::vector<float> logits = {std::log(0.15f), std::log(0.5f), std::log(0.05f),
                                     std::log(0.3f)};
  SamplingParams params = plain();
  params.top_p = 0.79f;
  EXPECT_EQ(support(logits, params), (std::set<int32_t>{1, 3}));
  params.top_p = 0.81f;
  EXPECT_EQ(support(logits, params), (std::set<int32_t>{0, 1, 3}));
  params.top_p = 0.01f;
  EXPECT_EQ(support(logits, params), (std::set<int32_t>{1}));
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  // After top-2 the shares are 0.625 and 0.375, so 0.6 is reached by the first alone.
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  SamplingParams params = plain();
  params.top_k = 2;
  params.top_p = 0.6f;
  EXPECT_EQ(support(logits, params), (std::set<int32_t>{0}));
}

TEST(Sampler, MinPIsRelativeToTheBest) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.26f), std::log(0.24f)};
  SamplingParams params = plain();
  params.min_p = 0.5f;
  EXPECT_EQ(support(logits, params), (std::set<int32_t>{0, 1}));
  params.min_p = 1.f;
  EXPECT_EQ(support(logits, params), (std::set<int32_t>{0}));
}

// Filters look at probabilities before temperature (llama.cpp's order): a hot temperature adds no
// tokens.
TEST(Sampler, TemperatureComesAfterTheFilters) {
  const std::vector<float> logits = {std::log(0.7f), std::log(0.2f), std::log(0.1f)};
  SamplingParams params = plain();
  params.top_p = 0.85f;
  params.temperature = 100.f;
  EXPECT_EQ(support(logits, params), (std::set<int32_t>{0, 1}));
}

TEST(Sampler, Penalties) {
  SamplingParams params = plain();
  params.temperature = 0;
  const std::vector<float> logits = {2.f, 1.9f, -1.f};
  const std::vector<int32_t> history = {0, 0, 2};
  EXPECT_EQ(sample(logits, params, history, 0), 0);
  params.repetition_penalty = 1.1f;  // 2 / 1.1 = 1.82 < 1.9
  EXPECT_EQ(sample(logits, params, history, 0), 1);
  params.penalty_window = 1;  // only token 2 is in sight
  EXPECT_EQ(sample(logits, params, history, 0), 0);
  params = plain();
  params.temperature = 0;
  params.presence_penalty = 0.15f;
  EXPECT_EQ(sample(logits, params, history, 0), 1);
  params.presence_penalty = 0;
  params.frequency_penalty = 0.06f;  // twice 0.06
  EXPECT_EQ(sample(logits, params, history, 0), 1);
  EXPECT_EQ(sample(logits, params, std::vector<int32_t>{0}, 0), 0);
}

TEST(Sampler, RepetitionPenaltyLowersNegativeLogits) {
  SamplingParams params = plain();
  params.temperature = 0;
  params.repetition_penalty = 2.f;
  EXPECT_EQ(sample(std::vector<float>{-1.f, -1.5f}, params, std::vector<int32_t>{0}, 0), 1);
}

TEST(Sampler, ExtremeParameters) {
  std::vector<float> logits(500);
  for (size_t i = 0; i < logits.size(); i++)
    logits[i] = static_cast<float>(i % 97) * 300.f - 15000.f;
  SamplingParams params = plain();
  params.temperature = std::numeric_limits<float>::min();
  EXPECT_EQ(support(logits, params, 50), support(logits, params, 50));
  for (int32_t t : support(logits, params, 50))
    EXPECT_EQ(t % 97, 96);  // only the ties for the best
  params.temperature = std::numeric_limits<float>::max();
  EXPECT_GT(support(logits, params, 4000).size(), 480u);  // uniform
  params = plain();
  params.top_k = std::numeric_limits<int>::max();
  params.top_p = std::numeric_limits<float>::min();
  for (int32_t t : support(logits, params, 50)) EXPECT_EQ(t, 96);
}

TEST(Sampler, MaskedTokensAreNeverChosen) {
  SamplingParams params = plain();
  EXPECT_EQ(support({-kInf, 1.f, -kInf, 0.f}, params), (std::set<int32_t>{1, 3}));
}

TEST(Sampler, BrokenLogitsAreErrors) {
  for (const std::vector<float>& logits :
       {std::vector<float>{0.f, NAN}, {kInf, 1.f}, {-kInf, -kInf}, std::vector<float>{}})
    for (float temperature : {0.f, 1.f}) {
      SamplingParams params = plain();
      params.temperature = temperature;
      try {
        sample(logits, params, {}, 0);
        FAIL() << "accepted broken logits";
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), Code::kInternal);
      }
    }
}

TEST(SamplingParams, CheckNamesTheParameter) {
  const auto message = [](auto change) {
    SamplingParams p;
    change(p);
    try {
      p.check();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInvalidArgument);
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(message([](SamplingParams&) {}), "");
  EXPECT_NE(message([](SamplingParams& p) { p.temperature = -1; }).find("temperature"),
            std::string::npos);
  EXPECT_NE(message([](SamplingParams& p) { p.temperature = NAN; }).find("temperature"),
            std::string::npos);
  EXPECT_NE(message([](SamplingParams& p) { p.top_k = -1; }).find("top_k"), std::string::npos);
  EXPECT_NE(message([](SamplingParams& p) { p.top_p = 0; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](SamplingParams& p) { p.top_p = 1.01f; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](SamplingParams& p) { p.min_p = NAN; }).find("min_p"), std::string::npos);
  EXPECT_NE(message([](SamplingParams& p) { p.repetition_penalty = 0; }).find("repetition"),
            std::string::npos);
  EXPECT_NE(message([](SamplingParams& p) { p.penalty_window = -1; }).find("window"),
            std::string::npos);
}

}  // namespace
}  // namespace hob
