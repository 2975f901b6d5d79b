#include "text/pretokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <set>

namespace hob {
namespace {

std::vector<std::string> split(const PreTokenizer& pretokenizer, const std::string& text) {
  const RuneText runes = decode_runes(text);
  std::vector<std::string> words;
  uint32_t begin = 0;
  for (const uint32_t end : split_words(pretokenizer, runes)) {
    words.push_back(
        text.substr(runes.begin_byte[begin], runes.begin_byte[end] - runes.begin_byte[begin]));
    begin = end;
  }
  return words;
}

std::string unescaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out.push_back(text[i]);
      continue;
    }
    switch (text[++i]) {
      case 'n':
        out.push_back('\n');
        break;
      case 'r':
        out.push_back('\r');
        break;
      case 't':
        out.push_back('\t');
        break;
      case '0':
        out.push_back('\0');
        break;
      default:
        out.push_back(text[i]);
    }
  }
  return out;
}

std::vector<std::string> words_of_line(const std::string& line) {
  constexpr std::string_view kSeparator = "␟";
  std::vector<std::string> words;
  size_t begin = 0;
  for (size_t end = line.find(kSeparator); end != std::string::npos;
       end = line.find(kSeparator, begin)) {
    words.push_back(unescaped(line.substr(begin, end - begin)));
    begin = end + kSeparator.size();
  }
  words.push_back(unescaped(line.substr(begin)));
  return words;
}

// splits.txt: expected words, computed with the published regexes (Python's `regex` module).
// "@name" chooses the pre-tokenizer of the lines that follow.
TEST(PreTokenizer, SplitsAsThePublishedRegexes) {
  std::ifstream file(HOB_TEST_DATA "/text/splits.txt", std::ios::binary);
  const PreTokenizer* pretokenizer = nullptr;
  std::set<std::string> seen;
  int n_lines = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('@')) {
      pretokenizer = find_pretokenizer(line.substr(1));
      ASSERT_NE(pretokenizer, nullptr) << line;
      seen.insert(line);
      continue;
    }
    ASSERT_NE(pretokenizer, nullptr);
    const std::vector<std::string> expected = words_of_line(line);
    std::string text;
    for (const std::string& word : expected) text += word;
    EXPECT_EQ(split(*pretokenizer, text), expected) << pretokenizer->name << ": " << line;
    ++n_lines;
  }
  EXPECT_EQ(seen.size(), 12u);
  EXPECT_GT(n_lines, 1000);
}

TEST(PreTokenizer, AliasesSplitAlike) {
  const auto stages = [](std::string_view name) { return find_pretokenizer(name)->stages.data(); };
  for (const char* name :
       {"llama3", "llama-v3", "falcon3", "pixtral", "lfm2", "dbrx", "smaug-bpe"}) {
    EXPECT_EQ(stages(name), stages("llama-bpe")) << name;
  }
  for (const char* name : {"deepseek-r1-qwen", "stablelm2", "hunyuan"})
    EXPECT_EQ(stages(name), stages("qwen2"));
  for (const char* name : {"olmo", "phi-2", "mpt", "jais"})
    EXPECT_EQ(stages(name), stages("gpt-2")) << name;
  for (const char* name : {"starcoder", "refact", "command-r", "codeshell"})
    EXPECT_EQ(stages(name), stages("smollm"));
  EXPECT_EQ(stages("llama4"), stages("gpt-4o"));
  EXPECT_EQ(find_pretokenizer(""), find_pretokenizer("default"));
  EXPECT_EQ(find_pretokenizer("no-such"), nullptr);
}

TEST(PreTokenizer, WordsCoverAnyBytesAndNoneIsEmpty) {
  std::string text;
  uint32_t state = 12345;
  for (int i = 0; i < 4000; ++i) {
    state = state * 1664525u + 1013904223u;
    text.push_back(static_cast<char>(state >> 24));
  }
  for (const PreTokenizer& pretokenizer : all_pretokenizers()) {
    std::string joined;
    for (const std::string& word : split(pretokenizer, text)) {
      EXPECT_FALSE(word.empty());
      joined += word;
    }
    EXPECT_EQ(joined, text) << pretokenizer.name;
  }
}

// Each of these makes a careless matcher scan to the end of the text again and again; 1 MB would
// then take hours.
TEST(PreTokenizer, HardTextsTakeLinearTime) {
  constexpr size_t kSize = 1'000'000;
  const auto repeated = [](std::string_view unit) {
    std::string text;
    while (text.size() < kSize) text += unit;
    return text;
  };
  std::vector<std::string> texts;
  for (const char* unit :
       {" ", "\n", " \n", "\t x", "A", "a", "aA", "中A", "1", "!", "'", " '", "\xCC\x81", "\xFF"}) {
    texts.push_back(repeated(unit));
  }
  texts.push_back(repeated(" ") + "x");
  const auto start = std::chrono::steady_clock::now();
  for (const PreTokenizer* row :
       {find_pretokenizer("default"), find_pretokenizer("llama-bpe"), find_pretokenizer("gpt-4o"),
        find_pretokenizer("deepseek-llm"), find_pretokenizer("deepseek-v3"),
        find_pretokenizer("deepseek-coder")}) {
    for (const std::string& text : texts) {
      const RuneText runes = decode_runes(text);
      EXPECT_EQ(split_words(*row, runes).back(), runes.size());
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes(2));
}

}  // namespace
}  // namespace hob
