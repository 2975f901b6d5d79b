// Logits of every family against llama.cpp's (F32 KV, no flash attention), and identity: how a
// prompt is cut into steps, what shares its steps and how many experts fit must not change a bit.
#include <gtest/gtest.h>

#include <algorithm>

#include "unit/model/model_checks_util.h"
#include "unit/model/naive_backend_util.h"

namespace hob {
namespace {

std::string test_name(const ::testing::TestParamInfo<std::string>& fixture) {
  std::string name = fixture.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

class LogitsFixtures : public ::testing::TestWithParam<std::string> {};

TEST_P(LogitsFixtures, AgreeWithThePeer) { expect_fixture(GetParam(), make_naive_backend); }

INSTANTIATE_TEST_SUITE_P(Files, LogitsFixtures, ::testing::ValuesIn(logits_fixture_names()),
                         test_name);

class Identity : public ::testing::TestWithParam<std::string> {
 protected:
  std::string path() const { return find_logits_fixture(GetParam()) + ".gguf"; }
};

TEST_P(Identity, HoweverBatched) { expect_same_bits_however_batched(path(), make_naive_backend); }

INSTANTIATE_TEST_SUITE_P(Files, Identity,
                         ::testing::Values("llama", "llama_yarn", "olmoe", "qwen2moe", "qwen3moe",
                                           "mixtral-Q4_K_M"),
                         test_name);

class MoeIdentity : public Identity {};

TEST_P(MoeIdentity, OneSlotForAllExperts) {
  expect_same_bits_with_one_slot(path(), make_naive_backend);
}

INSTANTIATE_TEST_SUITE_P(Files, MoeIdentity,
                         ::testing::Values("olmoe", "qwen2moe", "qwen3moe", "mixtral-Q4_K_M",
                                           "mixtral-Q2_K"),
                         test_name);

TEST(DenseWeights, PrepareWorksInPieces) { expect_prepare_works_in_pieces(make_naive_backend); }

}  // namespace
}  // namespace hob
