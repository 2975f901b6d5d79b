// Vocabularies that contradict themselves: one clear Error, or a defined meaning; never a crash.
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "text/vocabulary.h"
#include "unit/text/vocab_util.h"

namespace hob {
namespace {

using namespace testing_text;  // NOLINT
using testing_text::error_of;

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

#define EXPECT_ERROR(metadata, part)                          \
  EXPECT_NE(error_of(metadata).find(part), std::string::npos) \
      << "error: \"" << error_of(metadata) << '"'

TEST(MalformedVocabulary, NoVocabularyHasItsOwnMessage) {
  constexpr const char* kMessage = "[tokenizer] expected a vocabulary, file has none";
  Metadata none;
  EXPECT_EQ(error_of(none), kMessage);
  none.set("tokenizer.ggml.model", std::string("no_vocab"));
  EXPECT_EQ(error_of(none), kMessage);
}

TEST(MalformedVocabulary, UnknownModelAndPreTokenizerAreNamed) {
  EXPECT_ERROR(metadata_of("rwkv", {{"a"}}), "\"rwkv\"");
  EXPECT_ERROR(bpe_metadata("brand-new", {}, {}), "\"brand-new\"");
}

TEST(MalformedVocabulary, TokensMissingOrEmptyList) {
  Metadata metadata;
  metadata.set("tokenizer.ggml.model", std::string("llama"));
  EXPECT_ERROR(metadata, "tokenizer.ggml.tokens");
  metadata.set("tokenizer.ggml.tokens", std::vector<std::string>{});
  EXPECT_ERROR(metadata, "tokenizer.ggml.tokens");
  metadata.set("tokenizer.ggml.tokens", uint64_t{7});
  EXPECT_ERROR(metadata, "tokenizer.ggml.tokens");
}

TEST(MalformedVocabulary, SpecialIdsOutOfRange) {
  for (const char* key : {"bos", "eos", "eot", "eom", "unknown", "fim_pad"}) {
    Metadata metadata = spm_metadata({{"a"}});
    const std::string name = std::string("tokenizer.ggml.") + key + "_token_id";
    metadata.set(name, uint64_t{260});
    EXPECT_ERROR(metadata, name + ": expected an id below 260, file has 260");
    metadata.set(name, int64_t{-2});
    EXPECT_FALSE(error_of(metadata).empty()) << key;
    metadata.set(name, uint64_t{std::numeric_limits<uint64_t>::max()});
    EXPECT_FALSE(error_of(metadata).empty()) << key;
  }
}

TEST(MalformedVocabulary, AllOnesAndMinusOneMeanNone) {
  Metadata metadata = spm_metadata({{"a"}});
  metadata.set("tokenizer.ggml.bos_token_id", uint64_t{0xFFFFFFFFu});
  metadata.set("tokenizer.ggml.eos_token_id", int64_t{-1});
  const auto tokenizer = tokenizer_of(metadata);
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_EQ(tokenizer->eos(), -1);
  EXPECT_FALSE(tokenizer->adds_bos());
  metadata.set("tokenizer.ggml.add_bos_token", true);
  EXPECT_ERROR(metadata, "add_bos_token");
}

TEST(MalformedVocabulary, DefaultIdsBeyondASmallVocabularyAreNone) {
  const auto tokenizer = tokenizer_of(metadata_of("llama", {{"a"}}));
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_EQ(tokenizer->eos(), -1);
  EXPECT_EQ(tokenizer->encode("a", {}).size(),
            2u);  // the prefix space is unknown (token 0), then a
}

TEST(MalformedVocabulary, DuplicateTokens) {
  EXPECT_ERROR(spm_metadata({{"dup"}, {"x"}, {"dup"}}), "\"dup\" is also token 259");
}

TEST(MalformedVocabulary, EmptyTokensMatchAndPrintNothing) {
  const auto tokenizer = tokenizer_of(spm_metadata({{""}, {"", 3}, {"", 4}, {"a"}, {"▁"}}));
  EXPECT_EQ(tokenizer->find(""), -1);
  EXPECT_EQ(tokenizer->piece(kSpmFirst, true), "");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("aa", {}), false), "aa");
}

TEST(MalformedVocabulary, ByteTokens) {
  for (const char* text :
       {"<0x-1>", "<0xGG>", "<0x1>", "<0x123>", "<0x>", "", "x", "<0x 1>", "<0x+1>"}) {
    EXPECT_ERROR(metadata_of("llama", {{"<unk>", 2}, {text, 6}}), "expected a byte token") << text;
    EXPECT_EQ(parse_byte_token(text), std::nullopt) << text;
  }
  EXPECT_EQ(parse_byte_token("<0xfF>"), 0xFF);
  EXPECT_EQ(parse_byte_token("<0x00>"), 0x00);
  // The same texts as ordinary tokens are texts and nothing else.
  const auto tokenizer = tokenizer_of(spm_metadata({{"<0x-1>"}, {"<0xGG>"}}));
  EXPECT_EQ(tokenizer->piece(kSpmFirst, false), "<0x-1>");
}

TEST(MalformedVocabulary, TokenTypes) {
  Metadata metadata = spm_metadata({{"a"}});
  metadata.set("tokenizer.ggml.token_type", std::vector<int64_t>{1, 1});
  EXPECT_ERROR(metadata, "token_type: expected 260 entries, file has 2");
  std::vector<int64_t> types(260, 1);
  types[5] = 7;
  metadata.set("tokenizer.ggml.token_type", types);
  EXPECT_ERROR(metadata, "token_type[5]: expected 0..6, file has 7");
  types[5] = std::numeric_limits<int64_t>::min();
  metadata.set("tokenizer.ggml.token_type", types);
  EXPECT_ERROR(metadata, "token_type[5]");
  metadata.set("tokenizer.ggml.token_type", std::string("x"));
  EXPECT_ERROR(metadata, "token_type");
}

TEST(MalformedVocabulary, Scores) {
  Metadata metadata = spm_metadata({{"a"}});
  metadata.set("tokenizer.ggml.scores", std::vector<double>{0.0});
  EXPECT_ERROR(metadata, "scores: expected 260 entries, file has 1");
  std::vector<double> scores(260, 0.0);
  scores[9] = std::numeric_limits<double>::quiet_NaN();
  metadata.set("tokenizer.ggml.scores", scores);
  EXPECT_ERROR(metadata, "scores[9]: expected a number, file has NaN");
  scores[9] = -std::numeric_limits<double>::infinity();
  metadata.set("tokenizer.ggml.scores", scores);
  EXPECT_EQ(error_of(metadata), "");
}

TEST(MalformedVocabulary, Merges) {
  Metadata missing = metadata_of("gpt2", {{"a"}});
  EXPECT_ERROR(missing, "tokenizer.ggml.merges");
  for (const char* line : {"", "one", "one ", " ", " one"}) {
    EXPECT_ERROR(bpe_metadata("gpt-2", {}, {"a b", line}), "merges[1]: expected two parts")
        << '"' << line << '"';
  }
}

TEST(MalformedVocabulary, MergesOfUnknownOrCyclicTokensDoNoHarm) {
  const auto tokenizer = tokenizer_of(
      bpe_metadata("gpt-2", {}, {"no such", "a such", "a a", "aa aa", "aaaa a", "a aaaa", "b  "}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("aaaaaaaaab nosuch", kPlain), false),
            "aaaaaaaaab nosuch");
}

TEST(MalformedVocabulary, VocabularyWithoutSomeBytes) {
  Metadata metadata = metadata_of("gpt2", {{"a"}, {"b"}});
  metadata.set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  const auto tokenizer = tokenizer_of(metadata);
  EXPECT_EQ(tokenizer->encode("ab\xFF c", kPlain), (std::vector<TokenId>{0, 1}));
}

TEST(MalformedVocabulary, OverlongSpecialToken) {
  EXPECT_ERROR(bpe_metadata("gpt-2", {{std::string(5000, 'x'), 4}}, {}),
               "special token of at most");
}

TEST(MalformedVocabulary, TokensThatAreNoUtf8) {
  const auto tokenizer =
      tokenizer_of(spm_metadata({{"\xE2\x96"}, {"\xFF\xFE"}, {"\x96\x81", 4}, {"▁"}}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("\xFF\xFE\xE2\x96", kPlain), false),
            "\xFF\xFE\xE2\x96");
}

}  // namespace
}  // namespace hob
