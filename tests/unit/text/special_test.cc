#include <gtest/gtest.h>

#include "base/error.h"
#include "unit/text/vocab_util.h"

namespace hob {
namespace {

using namespace testing_text;  // NOLINT
using Ids = std::vector<TokenId>;

constexpr EncodeOptions kParse{.add_special = false, .parse_special = true};
constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

TokenId id_of(const Tokenizer& tokenizer, const char* text) { return tokenizer.find(text); }

TEST(SpecialTokens, ControlOnlyWhereAllowedUserDefinedAlways) {
  const auto tokenizer =
      tokenizer_of(bpe_metadata("gpt-2", {{"<ctl>", 3}, {"<usr>", 4}, {"<unk>", 2}}, {}));
  const TokenId control = id_of(*tokenizer, "<ctl>"), user = id_of(*tokenizer, "<usr>");
  EXPECT_EQ(tokenizer->encode("<ctl><usr>", kParse), (Ids{control, user}));
  const Ids plain = tokenizer->encode("<ctl><usr><unk>", kPlain);
  EXPECT_EQ(plain.size(), 5u + 1u + 5u);
  EXPECT_EQ(plain[5], user);
  EXPECT_EQ(tokenizer->decode(plain, false), "<ctl><usr><unk>");
}

TEST(SpecialTokens, LongerOnesArePlacedFirst) {
  const auto tokenizer = tokenizer_of(bpe_metadata("gpt-2", {{"ab", 4}, {"bcd", 4}}, {}));
  const TokenId ab = id_of(*tokenizer, "ab"), bcd = id_of(*tokenizer, "bcd"),
                a = id_of(*tokenizer, "a");
  // Not from the left: "bcd" takes its place before "ab" is looked at.
  EXPECT_EQ(tokenizer->encode("abcd", kPlain), (Ids{a, bcd}));
  EXPECT_EQ(tokenizer->encode("abab", kPlain), (Ids{ab, ab}));
}

TEST(SpecialTokens, WhitespaceRunsAsUserDefinedTokens) {
  std::vector<Token> runs;
  for (size_t n = 24; n >= 2; --n) runs.push_back({std::string(n, ' '), 4});
  const auto tokenizer = tokenizer_of(bpe_metadata("gpt-2", runs, {}));
  const Ids ids = tokenizer->encode("x" + std::string(30, ' ') + "y", kPlain);
  EXPECT_EQ(ids.size(), 4u);
  EXPECT_EQ(tokenizer->piece(ids[1], false).size(), 24u);
  EXPECT_EQ(tokenizer->piece(ids[2], false).size(), 6u);
}

TEST(SpecialTokens, PartsMergeAcrossSeamsButControlTokensDoNot) {
  const auto tokenizer = tokenizer_of(bpe_metadata("gpt-2", {{"<ctl>", 3}, {"ab"}}, {"a b"}));
  const std::vector<TextPart> merging = {{"a", true}, {"b", false}};
  EXPECT_EQ(tokenizer->encode_parts(merging, false), (Ids{id_of(*tokenizer, "ab")}));
  const std::vector<TextPart> split = {{"<c", true}, {"tl>", false}};
  EXPECT_EQ(tokenizer->encode_parts(split, false).size(), 5u);
  const std::vector<TextPart> injected = {{"<ctl>", true}, {"<ctl>", false}};
  EXPECT_EQ(tokenizer->encode_parts(injected, false).size(), 1u + 5u);
}

TEST(SpecialTokens, Phi3TokensSwallowTheWhitespaceBehindThem) {
  Metadata metadata = spm_metadata({{"▁"}, {"a"}, {"▁a", 1, 1}, {"<|user|>", 3}});
  metadata.set("general.name", std::string("Phi3"));
  const auto tokenizer = tokenizer_of(metadata);
  const TokenId user = id_of(*tokenizer, "<|user|>"), a = id_of(*tokenizer, "▁a");
  EXPECT_EQ(tokenizer->encode("<|user|>\n  a", kParse), (Ids{user, a}));
  const std::vector<TextPart> parts = {{"<|user|>\n", true}, {" a", false}};
  EXPECT_EQ(tokenizer->encode_parts(parts, false), (Ids{user, a}));
  EXPECT_EQ(tokenizer->encode("<s> a", kParse).size(), 3u);  // <s> keeps it
}

TEST(SpecialTokens, EndTokens) {
  Metadata metadata = bpe_metadata("qwen2",
                                   {{"<|im_end|>", 3},
                                    {"<|endoftext|>", 4},
                                    {"<eos>"},
                                    {"<other>", 3},
                                    {"mine", 3},
                                    {"stop", 3}},
                                   {});
  metadata.set("tokenizer.ggml.eos_token_id", uint64_t{kBpeFirst + 4});
  metadata.set("tokenizer.ggml.eot_token_id", uint64_t{kBpeFirst + 5});
  const auto tokenizer = tokenizer_of(metadata);
  for (const char* text : {"<|im_end|>", "<|endoftext|>", "<eos>", "mine", "stop"}) {
    EXPECT_TRUE(tokenizer->is_end(id_of(*tokenizer, text))) << text;
  }
  EXPECT_FALSE(tokenizer->is_end(id_of(*tokenizer, "<other>")));
  EXPECT_FALSE(tokenizer->is_end(id_of(*tokenizer, "a")));
  EXPECT_FALSE(tokenizer->is_end(-1));
  EXPECT_FALSE(tokenizer->is_end(100000));
  // A converter left it user defined; as such, anybody's text could end the turn.
  EXPECT_TRUE(tokenizer->is_control(id_of(*tokenizer, "<|endoftext|>")));
  EXPECT_EQ(tokenizer->encode("<|endoftext|>", kPlain).size(), 13u);
}

TEST(SpecialTokens, InHarmonyVocabulariesEndOfMessageIsNoEndOfTurn) {
  const auto tokenizer = tokenizer_of(
      bpe_metadata("gpt-4o", {{"<|end|>", 3}, {"<|return|>", 3}, {"<|call|>", 3}}, {}));
  EXPECT_FALSE(tokenizer->is_end(id_of(*tokenizer, "<|end|>")));
  EXPECT_TRUE(tokenizer->is_end(id_of(*tokenizer, "<|return|>")));
  EXPECT_TRUE(tokenizer->is_end(id_of(*tokenizer, "<|call|>")));
}

TEST(SpecialTokens, PiecesOfTheTypes) {
  const auto tokenizer =
      tokenizer_of(spm_metadata({{"▁a▁b"}, {"<ctl>", 3}, {"▁u", 4}, {"pad", 5}, {"odd", 0}}));
  EXPECT_EQ(tokenizer->piece(kSpmFirst, false), " a b");
  EXPECT_EQ(tokenizer->piece(kSpmFirst + 1, false), "");
  EXPECT_EQ(tokenizer->piece(kSpmFirst + 1, true), "<ctl>");
  EXPECT_EQ(tokenizer->piece(kSpmFirst + 2, false), "▁u");
  EXPECT_EQ(tokenizer->piece(kSpmFirst + 3, true), "");
  EXPECT_EQ(tokenizer->piece(kSpmFirst + 4, true), "");
  EXPECT_EQ(tokenizer->piece(3 + 0x41, false), "A");
  EXPECT_THROW(tokenizer->piece(-1, false), Error);
  EXPECT_THROW(tokenizer->piece(tokenizer->n_vocab(), false), Error);
  EXPECT_THROW(tokenizer->decode(Ids{1 << 30}, false), Error);
}

}  // namespace
}  // namespace hob
