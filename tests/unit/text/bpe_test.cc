#include <gtest/gtest.h>

#include "text/bpe_tokenizer.h"
#include "unit/text/vocab_util.h"

namespace hob {
namespace {

using namespace testing_text;  // NOLINT
using Ids = std::vector<TokenId>;

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

std::vector<std::string> texts(const Tokenizer& tokenizer, const Ids& ids) {
  std::vector<std::string> out;
  for (const TokenId id : ids) out.push_back(tokenizer.piece(id, true));
  return out;
}
using Texts = std::vector<std::string>;

TEST(Bpe, ByteCharactersAreABijection) {
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(code_point_to_byte(byte_to_code_point(static_cast<uint8_t>(byte))), byte);
  }
  EXPECT_EQ(byte_to_code_point(' '), 0x120u);   // Ġ
  EXPECT_EQ(byte_to_code_point('\n'), 0x10Au);  // Ċ
  EXPECT_EQ(code_point_to_byte(0x20), -1);
  EXPECT_EQ(code_point_to_byte(0x144), -1);
}

TEST(Bpe, LowestRankMergesFirstAndTiesFromTheLeft) {
  const auto tokenizer = tokenizer_of(
      bpe_metadata("gpt-2", {{"bc"}, {"ab"}, {"abc"}, {"aa"}}, {"b c", "a b", "ab c", "a a"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("abc", kPlain)), (Texts{"a", "bc"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("aaa", kPlain)), (Texts{"aa", "a"}));
}

TEST(Bpe, MergesStayInsideWords) {
  const auto tokenizer = tokenizer_of(bpe_metadata("gpt-2", {{"a!"}, {"Ġa"}}, {"a !", "Ġ a"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("a! a", kPlain)), (Texts{"a", "!", " a"}));
}

TEST(Bpe, WholeWordComesFirstOnlyForFamiliesThatDoSo) {
  const std::vector<Token> more = {{"ab"}, {"bc"}, {"abc"}};
  const std::vector<std::string> merges = {"b c", "a b"};
  const auto llama = tokenizer_of(bpe_metadata("llama-bpe", more, merges));
  EXPECT_EQ(texts(*llama, llama->encode("abc", kPlain)), (Texts{"abc"}));
  const auto qwen = tokenizer_of(bpe_metadata("qwen2", more, merges));
  EXPECT_EQ(texts(*qwen, qwen->encode("abc", kPlain)), (Texts{"a", "bc"}));
}

TEST(Bpe, StepsThatAreNoTokensStillLeadToTokens) {
  // "ab" is no token, but merges through it reach "abc"; left alone it becomes its bytes.
  const auto tokenizer = tokenizer_of(bpe_metadata("gpt-2", {{"abc"}}, {"a b", "ab c"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("abc", kPlain)), (Texts{"abc"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("abd", kPlain)), (Texts{"a", "b", "d"}));
}

TEST(Bpe, RepeatedMergeKeepsItsFirstRank) {
  const auto tokenizer =
      tokenizer_of(bpe_metadata("gpt-2", {{"ab"}, {"bc"}}, {"a b", "b c", "a b"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("abc", kPlain)), (Texts{"ab", "c"}));
}

TEST(Bpe, EveryByteStringComesBack) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  for (const char* pre :
       {"default", "llama-bpe", "qwen2", "gpt-2", "smollm", "deepseek-llm", "gpt-4o", "tekken"}) {
    const auto tokenizer =
        tokenizer_of(bpe_metadata(pre, {{"ab"}, {as_bytes("ä")}}, {"a b", "Ã ¤"}));
    const std::string text = all + "ab \xC3\xA4\xE2\x82 \xED\xA0\x80 \xF0\x9F" + all;
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, kPlain), false), text) << pre;
  }
}

TEST(Bpe, ControlTokensDoNotComeOutOfMergesOrWholeWords) {
  const auto tokenizer =
      tokenizer_of(bpe_metadata("llama-bpe", {{"end", 3}, {"en"}}, {"e n", "en d"}));
  EXPECT_EQ(texts(*tokenizer, tokenizer->encode("end", kPlain)), (Texts{"e", "n", "d"}));
  EXPECT_EQ(tokenizer->encode("end", {.add_special = false}), (Ids{kBpeFirst}));
}

TEST(Bpe, BosDefaultsFollowTheFamily) {
  Metadata llama = bpe_metadata("llama-bpe", {{"<|begin_of_text|>", 3}}, {});
  llama.set("tokenizer.ggml.bos_token_id", uint64_t{kBpeFirst});
  EXPECT_TRUE(tokenizer_of(llama)->adds_bos());
  EXPECT_EQ(tokenizer_of(llama)->encode("a", {})[0], kBpeFirst);
  Metadata gpt2 = bpe_metadata("gpt-2", {{"<|begin_of_text|>", 3}}, {});
  gpt2.set("tokenizer.ggml.bos_token_id", uint64_t{kBpeFirst});
  EXPECT_FALSE(tokenizer_of(gpt2)->adds_bos());
  gpt2.set("tokenizer.ggml.add_bos_token", true);
  EXPECT_TRUE(tokenizer_of(gpt2)->adds_bos());
  // Without ids there is none: token 11 is an ordinary character here.
  EXPECT_EQ(tokenizer_of(bpe_metadata("gpt-2", {}, {}))->eos(), -1);
}

TEST(Bpe, LongWordsAreNotQuadratic) {
  const auto tokenizer = tokenizer_of(bpe_metadata("gpt-2", {{"aa"}, {"aaaa"}}, {"a a", "aa aa"}));
  const std::string text(400'000, 'a');
  const Ids ids = tokenizer->encode(text, kPlain);
  EXPECT_EQ(ids.size(), 100'000u);
  EXPECT_EQ(tokenizer->decode(ids, false), text);
}

}  // namespace
}  // namespace hob
