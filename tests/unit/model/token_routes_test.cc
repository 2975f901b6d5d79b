#include "model/layers/token_routes.h"

#include <gtest/gtest.h>

#include <array>

namespace hob {
namespace {

using Ids = std::array<int32_t, 2>;
using Weights = std::array<float, 2>;

class TokenRoutesTest : public testing::Test {
 protected:
  bool knows(int layer, int32_t token) {
    return table_.predict(layer, token, ids_.data(), weights_.data());
  }
  static constexpr int kVocab = 20000;  // more than the table has entries
  TokenRoutes table_{kVocab, 64, 2};
  Ids ids_{-1, -1};
  Weights weights_{};
};

TEST_F(TokenRoutesTest, SaysWhatATokenChoseLast) {
  EXPECT_FALSE(knows(0, 5));
  table_.observe(0, 5, Ids{3, 4}, Weights{.7f, .3f});
  table_.observe(0, 5, Ids{9, 63}, Weights{.6f, .4f});
  ASSERT_TRUE(knows(0, 5));
  EXPECT_EQ(ids_, (Ids{9, 63}));
  EXPECT_EQ(weights_, (Weights{.6f, .4f}));
  EXPECT_FALSE(knows(1, 5));  // another layer
  EXPECT_FALSE(knows(0, 6));  // another token
}

TEST_F(TokenRoutesTest, TokensThatShareAnEntryAreNotTakenForEachOther) {
  table_.observe(1, 1, Ids{3, 4}, Weights{1, 0});
  int n_known = 0;
  for (int32_t token = 0; token < kVocab; token++) n_known += knows(1, token);
  EXPECT_EQ(n_known, 1);
  for (int32_t token = 2; token < kVocab; token++)
    table_.observe(1, token, Ids{1, 2}, Weights{1, 0});
  EXPECT_FALSE(knows(1, 1));  // the newest has the entry
  EXPECT_TRUE(knows(1, kVocab - 1));
}

TEST_F(TokenRoutesTest, DeepLayersAndOtherWidthsAreLeftOut) {
  table_.observe(TokenRoutes::kLayers, 5, Ids{3, 4}, Weights{1, 0});
  EXPECT_FALSE(knows(TokenRoutes::kLayers, 5));
  table_.observe(0, 5, std::array<int32_t, 4>{1, 2, 3, 4}, std::array<float, 4>{});
  EXPECT_FALSE(knows(0, 5));
}

}  // namespace
}  // namespace hob
