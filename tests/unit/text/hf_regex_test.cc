#include <gtest/gtest.h>

#include <chrono>

#include "base/error.h"
#include "text/hf/regex.h"

namespace hob::hf {
namespace {

std::string error_of(const std::string& pattern) {
  try {
    Regex(pattern, "here");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> found(const std::string& pattern, const std::string& text) {
  std::vector<std::string> texts;
  for (const Match& match : Regex(pattern, "here").find_all(text, WorkBudget(text.size())))
    texts.push_back(text.substr(match.begin, match.end - match.begin));
  return texts;
}

using Strings = std::vector<std::string>;

TEST(HfRegex, FindsWhatDoesNotOverlap) {
  EXPECT_EQ(found("aa", "aaaaa"), (Strings{"aa", "aa"}));
  EXPECT_EQ(found("x*", "axxb"), (Strings{"", "xx", ""}));
  EXPECT_EQ(found("(?=b)", "abab"), (Strings{"", ""}));
  EXPECT_EQ(found("a", ""), Strings{});
  EXPECT_EQ(found("\\p{L}+", "äö ü"), (Strings{"äö", "ü"}));
}

TEST(HfRegex, FindsFarBehindWhatDoesNotMatch) {
  const std::string text = std::string(100'000, 'x') + "é!" + std::string(5000, 'y') + "!";
  EXPECT_EQ(found("!", text), (Strings{"!", "!"}));
}

TEST(HfRegex, RefusesByNameWhatMeansSomethingElseInPcre2) {
  for (const char* pattern : {"\\R",
                              "\\X",
                              "\\K",
                              "\\G",
                              "\\g<1>",
                              "\\k<a>",
                              "\\Q",
                              "\\C",
                              "(?s:.)",
                              "(?x) a",
                              "a(?i)b",
                              "(?#c)",
                              "(?<name>a)",
                              "(?P<n>a)",
                              "(?(1)a)",
                              "(*UTF)a",
                              "(?~a)",
                              "(?R)",
                              "[[:punct:]]",
                              "[a[^b]]",
                              "[a&&b]",
                              "[a-[b]]",
                              "[a&&[b]c]",
                              "[\\H]",
                              "\\H",
                              "\\xFF",
                              "\\u12",
                              "\\x{110000}",
                              "\\p",
                              "\\p{",
                              "\\p{L",
                              "\\p{No-Such-Script}",
                              "\\p{}",
                              "\\pL",
                              "[",
                              "[^",
                              "[a",
                              "a)",
                              "(a",
                              "\\",
                              "*a",
                              "a{2,1}",
                              "[b-a]",
                              "a**",
                              "\\x{FFFFFFFFFFFFFFFF}",
                              "[[[[[a]]]]]",
                              "[:alpha:]x[[:nope:]]"}) {
    const std::string error = error_of(pattern);
    EXPECT_EQ(error.find("[tokenizer] here: expected a regular expression"), 0u)
        << pattern << " gave \"" << error << '"';
  }
}

TEST(HfRegex, RefusesHugePatterns) {
  EXPECT_NE(error_of(std::string(40'000, 'a')), "");
  EXPECT_NE(error_of("((((a{1000}){1000}){1000}){1000})"), "");
  std::string deep(5000, '(');
  EXPECT_NE(error_of(deep + "a" + std::string(5000, ')')), "");
  EXPECT_NE(error_of(std::string(20'000, '[')), "");
}

// No pattern and no text may hang: it is an error, and soon.
TEST(HfRegex, CatastrophicPatternsEndInAnError) {
  const auto start = std::chrono::steady_clock::now();
  const std::string text = std::string(200'000, 'a') + "!";
  for (const char* pattern : {"(a*)*b", "(a|a)*b", "(a+)+$x", "(?:a|aa)+b", "((a*)*)*b"}) {
    EXPECT_THROW(found(pattern, text), Error) << pattern;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took.count(), 120.0);
}

TEST(HfRegex, QuadraticPatternsRunOutOfTime) {
  const std::string spaces = std::string(1 << 20, ' ') + "x";
  EXPECT_THROW(found("\\s+$", spaces), Error);
  // What tokenizers really use stays linear on the same text.
  EXPECT_EQ(found("\\s+(?!\\S)|\\s+", spaces).size(), 2u);
}

}  // namespace
}  // namespace hob::hf
