// Prompts made of parts: markup is parsed for control tokens, user content is not.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "unit/text/hf_util.h"

namespace hob {
namespace {

using testing_text::hf_json;
using testing_text::HfFolder;
using testing_text::HfParts;
using Ids = std::vector<TokenId>;

std::unique_ptr<Tokenizer> tokenizer_of(const HfParts& parts) {
  const HfFolder folder;
  folder.write("tokenizer.json", hf_json(parts));
  return Tokenizer::from_gguf(folder.metadata({.for_file = false}));
}

std::string added(int id, const std::string& text, bool special, bool normalized) {
  return fmt::format(
      R"({{"id": {}, "content": "{}", "special": {}, "lstrip": false, "rstrip": false,
           "single_word": false, "normalized": {}}})",
      id, text, special, normalized);
}

Ids encode(const Tokenizer& tokenizer, const std::vector<TextPart>& parts) {
  return tokenizer.encode_parts(parts, false);
}

TEST(HfParts, MergesWorkAcrossSeams) {
  const auto tokenizer = tokenizer_of({});
  EXPECT_EQ(encode(*tokenizer, {{"a", true}, {"b", false}}), Ids{256});
  EXPECT_EQ(encode(*tokenizer, {{"<s", true}, {">", true}}),
            tokenizer->encode("<s>", {.parse_special = false}));
  EXPECT_EQ(encode(*tokenizer, {{"", false}, {"<s>", true}, {"", false}}), Ids{257});
}

// A control token that the normaliser may change is looked for in the normalised text; next to user
// content it is looked for as it is written, because there only the parts tell who wrote it.
TEST(HfParts, NormalizedControlTokens) {
  const auto tokenizer = tokenizer_of({.more = R"(["ab", "<S>", "</s>"])",
                                       .added = "[" + added(257, "<S>", true, true) + "]",
                                       .normalizer = R"({"type": "Lowercase"})"});
  EXPECT_EQ(tokenizer->encode("<s>", {}), Ids{257});
  EXPECT_EQ(tokenizer->encode("<S>", {}), Ids{257});
  const Ids mixed = encode(*tokenizer, {{"<S>", true}, {"<S> <s>", false}, {"<S>", true}});
  EXPECT_EQ(mixed.front(), 257);
  EXPECT_EQ(mixed.back(), 257);
  EXPECT_EQ(std::count(mixed.begin(), mixed.end(), 257), 2);
}

TEST(HfParts, OtherAddedTokensAreTextToo) {
  const auto tokenizer = tokenizer_of({.more = R"(["x1", "<s>", "</s>"])",
                                       .merges = "[]",
                                       .added = "[" + added(300, "ab", false, false) + "," +
                                                added(301, "abab", false, false) + "," +
                                                added(257, "<s>", true, false) + "]"});
  EXPECT_EQ(encode(*tokenizer, {{"aba", false}, {"bab", true}}), (Ids{301, 300}));
}

TEST(HfParts, BytesThatAreNoUtf8StayTheirOwn) {
  const auto tokenizer = tokenizer_of({});
  // U+10FF80 is what such a byte travels as.
  const std::string text = "\xFF\x80 \xF4\x8F\xBE\x80\xF4\x8F";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, {}), false), text);
  EXPECT_EQ(tokenizer->encode("\xF4\x8F\xBE\x80", {}).size(), 4u);
}

}  // namespace
}  // namespace hob
