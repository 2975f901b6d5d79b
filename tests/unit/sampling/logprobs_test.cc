#include "sampling/logprobs.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "sampling/sampler.h"

namespace hob {
namespace {

constexpr float kInf = INFINITY;

TEST(Logprobs, OfAKnownDistribution) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.6f), std::log(0.25f),
                                     std::log(0.05f)};
  const TokenLogprob l = token_logprob(logits, 2, 3);
  EXPECT_EQ(l.token, 2);
  EXPECT_EQ(l.rank, 2);
  EXPECT_NEAR(l.logprob, std::log(0.25), 1e-6);
  ASSERT_EQ(l.top.size(), 3u);
  EXPECT_EQ(l.top[0].first, 1);
  EXPECT_EQ(l.top[1].first, 2);
  EXPECT_EQ(l.top[2].first, 0);
  EXPECT_NEAR(l.top[0].second, std::log(0.6), 1e-6);
}

TEST(Logprobs, TiesShareTheRankAndComeByTheirIds) {
  const std::vector<float> logits = {1.f, 2.f, 2.f, 2.f};
  EXPECT_EQ(token_logprob(logits, 3, 0).rank, 1);
  EXPECT_EQ(token_logprob(logits, 0, 0).rank, 4);
  const TokenLogprob l = token_logprob(logits, 3, 2);
  EXPECT_EQ(l.top[0].first, 1);
  EXPECT_EQ(l.top[1].first, 2);
}

TEST(Logprobs, AllOfThemSumToOne) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); i++) logits[i] = 40 * std::sin(static_cast<float>(i));
  const TokenLogprob l = token_logprob(logits, 0, 5000);
  ASSERT_EQ(l.top.size(), 1000u);
  double sum = 0;
  for (const auto& [token, logprob] : l.top) sum += std::exp(static_cast<double>(logprob));
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(Logprobs, MaskedTokens) {
  const TokenLogprob l = token_logprob(std::vector<float>{0.f, -kInf, 0.f}, 1, 3);
  EXPECT_EQ(l.logprob, -kInf);
  EXPECT_EQ(l.rank, 3);
  EXPECT_NEAR(l.top[1].second, std::log(0.5), 1e-6);
}

TEST(Logprobs, BrokenLogitsAreErrors) {
  for (const std::vector<float>& logits :
       {std::vector<float>{0.f, NAN}, std::vector<float>{NAN, 0.f}, {kInf, 1.f}, {-kInf, -kInf}})
    EXPECT_THROW(token_logprob(logits, 0, 1), Error);
}

TEST(LogitEdits, BiasComesFirstAndABanWins) {
  SamplingParams greedy;
  greedy.temperature = 0;
  const std::vector<float> logits = {1.f, 2.f, 3.f};
  const std::vector<std::pair<int32_t, float>> bias = {{0, 2.f}, {0, 0.5f}, {2, -1.5f}};
  EXPECT_EQ(sample(logits, greedy, {}, 0, 0, {.bias = bias, .banned = {}}), 0);
  const std::vector<int32_t> banned = {0, 1};
  EXPECT_EQ(sample(logits, greedy, {}, 0, 0, {.bias = bias, .banned = banned}), 2);
  // The penalty sees the biased logit: 3.5 / 2 < 2.
  greedy.repetition_penalty = 2.f;
  const std::vector<int32_t> history = {0};
  EXPECT_EQ(sample(logits, greedy, history, 0, 0, {.bias = bias, .banned = {}}), 1);
  const std::vector<std::pair<int32_t, float>> never = {{2, -kInf}, {1, -kInf}};
  EXPECT_EQ(sample(logits, greedy, history, 0, 0, {.bias = never, .banned = {}}), 0);
  const std::vector<int32_t> all = {0, 1, 2};
  EXPECT_THROW(sample(logits, greedy, {}, 0, 0, {.bias = {}, .banned = all}), Error);
}

}  // namespace
}  // namespace hob
