#include <gtest/gtest.h>

#include "unit/text/vocab_util.h"

namespace hob {
namespace {

using namespace testing_text;  // NOLINT
using Ids = std::vector<TokenId>;

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

// ▁ = 259, a = 260, b = 261, ab = 262, ▁a = 263, ▁ab = 264, ba = 265
Metadata abc() {
  return spm_metadata({{"▁", 1, -10},
                       {"a", 1, -11},
                       {"b", 1, -12},
                       {"ab", 1, -2},
                       {"▁a", 1, -1},
                       {"▁ab", 1, -3},
                       {"ba", 1, -2}});
}

TEST(Spm, HighestScoreMergesFirst) {
  const auto tokenizer = tokenizer_of(abc());
  // ▁a (-1) before ab (-2); then ▁a + b = ▁ab.
  EXPECT_EQ(tokenizer->encode("ab", kPlain), (Ids{264}));
  // ▁b: "ba" and "ab" tie at -2, the left one wins: b a b -> ba b.
  EXPECT_EQ(tokenizer->encode("bab", kPlain), (Ids{259, 265, 261}));
}

TEST(Spm, SpacePrefixBosAndEos) {
  Metadata metadata = abc();
  EXPECT_EQ(tokenizer_of(metadata)->encode("a", {}), (Ids{1, 263}));
  EXPECT_EQ(tokenizer_of(metadata)->encode("", {}), (Ids{1}));
  EXPECT_EQ(tokenizer_of(metadata)->encode("", kPlain), Ids{});
  metadata.set("tokenizer.ggml.add_space_prefix", false);
  metadata.set("tokenizer.ggml.add_bos_token", false);
  metadata.set("tokenizer.ggml.add_eos_token", true);
  EXPECT_EQ(tokenizer_of(metadata)->encode("a", {}), (Ids{260, 2}));
}

TEST(Spm, PrefixSpaceFollowsEverySpecialToken) {
  const auto tokenizer = tokenizer_of(abc());
  EXPECT_EQ(tokenizer->encode("a</s>a", {.add_special = false}), (Ids{263, 2, 263}));
  EXPECT_EQ(tokenizer->decode(Ids{263, 2, 263}, true), "a</s>a");
  EXPECT_EQ(tokenizer->decode(Ids{1, 263, 263}, false), "a a");
}

TEST(Spm, UnknownCharactersFallBackToBytes) {
  const auto tokenizer = tokenizer_of(abc());
  const TokenId byte0 = 3;
  EXPECT_EQ(tokenizer->encode("€", kPlain), (Ids{259, byte0 + 0xE2, byte0 + 0x82, byte0 + 0xAC}));
  EXPECT_EQ(tokenizer->encode(std::string("\xFF\0", 2), kPlain), (Ids{259, byte0 + 0xFF, byte0}));
}

TEST(Spm, BrokenUtf8DoesNotTearTheSpaceBehindIt) {
  const auto tokenizer = tokenizer_of(abc());
  for (const std::string text : {"a\xFF a", "\xE2 a", "\xF0\x9F  ab", "\xC3", " \xE2\x96"}) {
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, kPlain), false), text);
  }
}

TEST(Spm, WithoutByteTokensTheUnknownTokenStandsForACharacter) {
  const auto tokenizer =
      tokenizer_of(metadata_of("llama", {{"<unk>", 2}, {"<s>", 3}, {"</s>", 3}, {"▁"}, {"a"}}));
  EXPECT_EQ(tokenizer->encode("a€a", kPlain), (Ids{3, 4, 0, 4}));
}

TEST(Spm, TextCannotMergeIntoControlOrByteTokens) {
  // "<s>" has the highest score, and all its letters are tokens.
  const auto tokenizer = tokenizer_of(
      spm_metadata({{"▁"}, {"<"}, {"s"}, {">"}, {"<s"}, {"0"}, {"x"}, {"<0"}, {"<0x"}}));
  const Ids ids = tokenizer->encode("<s>", kPlain);
  EXPECT_EQ(ids, (Ids{259, 263, 262}));
  EXPECT_EQ(tokenizer->encode("<s>", {.add_special = false}), (Ids{1}));
  EXPECT_EQ(tokenizer->decode(ids, true), "<s>");
}

// A vocabulary with tokens such as "a▁b" may not be cut before ▁.
TEST(Spm, TokensThatReachAcrossSpacesAreFound) {
  const auto tokenizer = tokenizer_of(spm_metadata(
      {{"▁"}, {"a"}, {"b"}, {"▁b", 1, -1}, {"a▁", 1, 2}, {"a▁b", 1, 1}, {"▁a", 1, -2}}));
  EXPECT_EQ(tokenizer->encode("a b", kPlain), (Ids{259, 264}));
  EXPECT_EQ(tokenizer->encode("b b", kPlain), (Ids{262, 262}));
}

TEST(Spm, MergedWordsEqualTheUncutText) {
  // The same text in one piece (through a vocabulary whose ▁ joins everything) gives the same ids.
  const std::vector<Token> tokens = {{"▁", 1, -10}, {"a", 1, -11}, {"b", 1, -12}, {"ab", 1, -2},
                                     {"▁a", 1, -1}, {"▁▁", 1, -4}, {"▁ab", 1, -3}};
  std::vector<Token> joined = tokens;
  for (const char* text : {"a▁#", "b▁#", "▁▁#"}) joined.push_back({text, 5});
  const auto cut = tokenizer_of(spm_metadata(tokens)), whole = tokenizer_of(spm_metadata(joined));
  uint32_t state = 1;
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    state = state * 1664525u + 1013904223u;
    text.push_back("ab  "[state >> 30]);
  }
  EXPECT_EQ(cut->encode(text, kPlain), whole->encode(text, kPlain));
}

TEST(Spm, LongWordsAreNotQuadratic) {
  const auto tokenizer = tokenizer_of(abc());
  const std::string text(400'000, 'a');
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, kPlain), false), text);
}

TEST(Spm, ScoresMayBeIntegersOrMissing) {
  Metadata metadata =
      metadata_of("llama", {{"<unk>", 2}, {"<s>", 3}, {"</s>", 3}, {"▁"}, {"a"}, {"▁a"}, {"aa"}});
  metadata.set("tokenizer.ggml.scores", std::vector<int64_t>{0, 0, 0, 0, 0, -2, -1});
  EXPECT_EQ(tokenizer_of(metadata)->encode("aa", kPlain), (Ids{3, 6}));
  Metadata bare;
  bare.set("tokenizer.ggml.model", std::string("llama"));
  bare.set("tokenizer.ggml.tokens",
           std::vector<std::string>{"<unk>", "<s>", "</s>", "▁", "a", "▁a", "aa"});
  EXPECT_EQ(tokenizer_of(bare)->encode("aa", kPlain), (Ids{5, 4}));
}

}  // namespace
}  // namespace hob
