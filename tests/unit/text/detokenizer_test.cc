#include <gtest/gtest.h>

#include "text/unicode.h"
#include "unit/text/vocab_util.h"

namespace hob {
namespace {

using namespace testing_text;  // NOLINT
using Ids = std::vector<TokenId>;

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const int length = utf8_sequence_length(text.substr(i));
    if (length <= 0) return false;
    i += static_cast<size_t>(length);
  }
  return true;
}

TEST(Detokenizer, HoldsBackHalfCharacters) {
  const auto tokenizer = tokenizer_of(spm_metadata({{"▁a"}}));
  Detokenizer stream(*tokenizer);
  const TokenId byte0 = 3;
  EXPECT_EQ(stream.push(kSpmFirst), "a");
  EXPECT_EQ(stream.push(byte0 + 0xF0), "");
  EXPECT_EQ(stream.push(byte0 + 0x9F), "");
  EXPECT_EQ(stream.push(byte0 + 0x9A), "");
  EXPECT_EQ(stream.push(byte0 + 0x80), "🚀");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Detokenizer, BrokenBytesBecomeReplacementCharacters) {
  const auto tokenizer = tokenizer_of(spm_metadata({{"a"}}));
  const TokenId byte0 = 3;
  Detokenizer stream(*tokenizer);
  EXPECT_EQ(stream.push(byte0 + 0xFF), "\uFFFD");
  EXPECT_EQ(stream.push(byte0 + 0xE2), "");
  EXPECT_EQ(stream.push(kSpmFirst), "\uFFFDa");
  EXPECT_EQ(stream.push(byte0 + 0xE2), "");
  EXPECT_EQ(stream.push(byte0 + 0x82), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Detokenizer, FirstTextLosesThePrefixSpaceControlTokensAreNoText) {
  const auto tokenizer = tokenizer_of(spm_metadata({{"▁a"}, {"▁"}}));
  Detokenizer stream(*tokenizer);
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(kSpmFirst), "a");
  EXPECT_EQ(stream.push(kSpmFirst), " a");
  EXPECT_EQ(stream.push(2), "");
  EXPECT_EQ(stream.push(kSpmFirst), " a");
  Detokenizer lone(*tokenizer);
  EXPECT_EQ(lone.push(kSpmFirst + 1), "");
  EXPECT_EQ(lone.push(kSpmFirst), " a");  // the one space was the prefix
}

TEST(Detokenizer, FamiliesWithoutPrefixKeepTheFirstSpace) {
  const auto tokenizer = tokenizer_of(bpe_metadata("gpt-2", {{"Ġa"}}, {}));
  Detokenizer stream(*tokenizer);
  EXPECT_EQ(stream.push(kBpeFirst), " a");
}

TEST(Detokenizer, AnyTokensGiveValidUtf8ThatEqualsDecodeWhereThatIsValid) {
  for (const Metadata& metadata :
       {spm_metadata({{"▁a"}, {"ä"}}), bpe_metadata("gpt-2", {{"Ġa"}, {"Ã¤"}}, {})}) {
    const auto tokenizer = tokenizer_of(metadata);
    uint32_t state = 99;
    for (int round = 0; round < 300; ++round) {
      Detokenizer stream(*tokenizer);
      Ids ids;
      std::string streamed;
      for (int i = 0; i < 12; ++i) {
        state = state * 1664525u + 1013904223u;
        ids.push_back(
            static_cast<TokenId>((state >> 8) % static_cast<uint32_t>(tokenizer->n_vocab())));
        const std::string now = stream.push(ids.back());
        EXPECT_TRUE(is_utf8(now));
        streamed += now;
      }
      streamed += stream.finish();
      EXPECT_TRUE(is_utf8(streamed));
      const std::string whole = tokenizer->decode(ids, false);
      if (is_utf8(whole)) {
        EXPECT_EQ(streamed, whole);
      }
    }
  }
}

}  // namespace
}  // namespace hob
