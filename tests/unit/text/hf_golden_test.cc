// Against Hugging Face's own package: tools/make_tokenizer_golden.py trained the tokenizers of
// tests/data/hf_tokenizer and wrote what it makes of some texts.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "text/hf/normalizer.h"
#include "text/hf/pre_tokenizer.h"
#include "unit/text/hf_util.h"

namespace hob {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing_text::HfFolder;
using testing_text::read_text;
using Ids = std::vector<TokenId>;

const fs::path kFolder = HOB_TEST_DATA "/hf_tokenizer";

std::vector<json> lines_of(const fs::path& path) {
  std::vector<json> lines;
  std::istringstream text(read_text(path.string()));
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  return lines;
}

std::vector<std::string> kinds() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    if (entry.path().extension() == ".golden") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// U+FFFD for broken bytes, as the package has it.
std::string shown(const Tokenizer& tokenizer, const Ids& ids) {
  Detokenizer stream(tokenizer);
  std::string text;
  for (const TokenId id : ids) text += stream.push(id);
  return text + stream.finish();
}

// The package drops every space that a text's first token begins with, hob the one that it added.
std::string trimmed(std::string text) {
  text.erase(0, text.find_first_not_of(' '));
  return text;
}

class HfGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    folder_.write("tokenizer.json", read_text((kFolder / (GetParam() + ".json")).string()));
  }
  bool is(std::string_view name) const { return GetParam() == name; }
  HfFolder folder_;
};

TEST_P(HfGolden, EncodesAndDecodesAsThePackage) {
  const Metadata metadata = folder_.metadata({.for_file = false});
  const auto tokenizer = Tokenizer::from_gguf(metadata);
  for (const json& line : lines_of(kFolder / (GetParam() + ".golden"))) {
    const std::string text = line[0];
    const Ids ids = tokenizer->encode(text, {});
    EXPECT_EQ(ids, line[1].get<Ids>()) << text;
    // The package's Unigram makes a control token of its written text even where none is parsed.
    if (!GetParam().starts_with("unigram") || text.find('<') == std::string::npos) {
      EXPECT_EQ(tokenizer->encode(text, {.parse_special = false}), line[2].get<Ids>()) << text;
    }
    EXPECT_EQ(trimmed(tokenizer->decode(ids, false)), trimmed(line[3].get<std::string>())) << text;
    EXPECT_EQ(trimmed(shown(*tokenizer, ids)), trimmed(line[3].get<std::string>())) << text;
  }
}

// A converted file is read by GGUF's own names where they say it all, by the JSON otherwise.
TEST_P(HfGolden, ConvertedFilesAgree) {
  const Metadata metadata = folder_.metadata();
  const bool has_json = metadata.has(kHfTokenizerKey);
  const bool named = is("gpt2") || is("llama3") || is("qwen2");
  EXPECT_EQ(has_json, !named);
  EXPECT_EQ(metadata.has("tokenizer.ggml.pre"), named);
  const auto tokenizer = Tokenizer::from_gguf(metadata);
  for (const json& line : lines_of(kFolder / (GetParam() + ".golden"))) {
    const std::string text = line[0];
    // GGUF's names leave out how added tokens treat what is around them, and the normaliser.
    const bool plain =
        text.find("<mask>") == std::string::npos && text.find("<sep>") == std::string::npos &&
        text.find("foobar") == std::string::npos && text.find("e\u0301") == std::string::npos;
    if (has_json || plain) {
      EXPECT_EQ(tokenizer->encode(text, {}), line[1].get<Ids>()) << text;
    }
  }
}

// The control tokens' texts in user content stay text, next to markup that is parsed.
TEST_P(HfGolden, UserContentNeverBecomesControlTokens) {
  const Metadata metadata = folder_.metadata({.for_file = false});
  const auto tokenizer = Tokenizer::from_gguf(metadata);
  const TokenId mask = tokenizer->find("<mask>");
  ASSERT_TRUE(tokenizer->is_control(mask));
  const TextPart parts[] = {{"<mask>", true}, {"a <mask> b<ma", false}, {"sk> <mask>", true}};
  const Ids ids = tokenizer->encode_parts(parts, false);
  EXPECT_EQ(ids.front(), mask);
  EXPECT_EQ(ids.back(), mask);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), mask), 2);
}

TEST_P(HfGolden, AnyBytesEncode) {
  const Metadata metadata = folder_.metadata({.for_file = false});
  const auto tokenizer = Tokenizer::from_gguf(metadata);
  const std::string bytes = "a\xFF\xC0\x80 \xF4\x8F\xBE\x80 \xED\xA0\x80\xE2\x82";
  const Ids ids = tokenizer->encode(bytes, {.add_special = false});
  for (const TokenId id : ids) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, tokenizer->n_vocab());
  }
  if (is("gpt2") || is("llama3") || is("behaviors") || is("spm_bpe") || is("gemma")) {
    EXPECT_EQ(tokenizer->decode(ids, false), bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, HfGolden, testing::ValuesIn(kinds()),
                         [](const auto& test) { return test.param; });

std::string shown_of(const json& component) { return component.dump().substr(0, 200); }

TEST(HfComponents, AsThePackage) {
  size_t n_checked = 0;
  for (const json& line : lines_of(kFolder / "components.jsonl")) {
    const std::string what = line[0];
    for (const json& pair : line[2]) {
      const std::string text = pair[0];
      const hf::WorkBudget budget(text.size());
      hf::Stretch stretch{text};
      if (what == "normalizer") {
        hf::make_normalizer(hf::Node(line[1], "normalizer"))->apply(stretch, budget);
        EXPECT_EQ(stretch.text, pair[1].get<std::string>()) << shown_of(line[1]) << ": " << text;
      } else if (what == "pre_tokenizer") {
        std::vector<hf::Stretch> words;
        if (!text.empty()) {
          hf::make_pre_tokenizer(hf::Node(line[1], "pre_tokenizer"))->split(stretch, budget, words);
        }
        std::vector<std::string> texts;
        for (const hf::Stretch& word : words) texts.push_back(word.text);
        EXPECT_EQ(texts, pair[1].get<std::vector<std::string>>())
            << shown_of(line[1]) << ": " << text;
      } else {
        const json replace = {
            {"type", "Replace"}, {"pattern", {{"Regex", line[1]}}}, {"content", "<>"}};
        hf::make_normalizer(hf::Node(replace, "normalizer"))->apply(stretch, budget);
        EXPECT_EQ(stretch.text, pair[1].get<std::string>()) << line[1];
      }
      ++n_checked;
    }
  }
  EXPECT_GT(n_checked, 300u);
}

}  // namespace
}  // namespace hob
