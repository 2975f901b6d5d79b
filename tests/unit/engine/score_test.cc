#include "engine/score.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"

namespace hob {
namespace {

TEST(Score, LogProb) {
  const std::vector<float> logits = {std::log(1.f), std::log(3.f), std::log(4.f)};
  EXPECT_NEAR(log_prob(logits, 1), std::log(3.0 / 8), 1e-6);
  const std::vector<float> large = {1000.f, 1000.f};
  EXPECT_NEAR(log_prob(large, 0), std::log(0.5), 1e-9);
}

TEST(Score, Kl) {
  const std::vector<float> p = {std::log(0.5f), std::log(0.5f)};
  const std::vector<float> q = {std::log(0.9f), std::log(0.1f)};
  EXPECT_NEAR(kl_divergence(p, q), 0.5 * std::log(0.5 / 0.9) + 0.5 * std::log(0.5 / 0.1), 1e-6);
  EXPECT_EQ(kl_divergence(p, p), 0);
  // Adding a constant to all logits changes no distribution.
  std::vector<float> shifted = q;
  for (float& x : shifted) x += 3;
  EXPECT_NEAR(kl_divergence(q, shifted), 0, 1e-9);
}

TEST(Score, ArgMaxTakesTheFirst) { EXPECT_EQ(arg_max(std::vector<float>{1, 5, 5}), 1); }

TEST(Score, LogitsFileRoundTrip) {
  const std::string path = testing::TempDir() + "/logits_" + std::to_string(getpid());
  const std::vector<int32_t> tokens = {1, 2, 3};
  const LogitsFileHeader header = {3, 16, 8, 2, hash_tokens(tokens)};
  const std::vector<float> a = {1, 2, 3}, b = {-1, 0, 1};
  {
    LogitsWriter writer(path, header);
    writer.add(2, a);
    writer.add(0, b);
    writer.finish();
  }
  LogitsReader reader(path, header);
  const auto row = reader.next(2);
  EXPECT_EQ(std::vector<float>(row.begin(), row.end()), a);
  EXPECT_THROW(reader.next(1), Error);  // the file says target 0
  EXPECT_THROW(reader.next(0), Error);  // and there is no third row

  LogitsFileHeader other = header;
  other.stride = 4;
  EXPECT_THROW(LogitsReader(path, other), Error);
  other = header;
  other.token_hash = hash_tokens(std::vector<int32_t>{1, 2, 4});
  EXPECT_THROW(LogitsReader(path, other), Error);
  std::filesystem::resize_file(path, 20);
  EXPECT_THROW(LogitsReader(path, header), Error);
  std::filesystem::remove(path);
  EXPECT_THROW(LogitsReader(path, header), Error);
}

}  // namespace
}  // namespace hob
