#include "text/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

#include "text/unicode.h"

namespace hob {
namespace {

using Stops = std::vector<std::string>;

// By the definition: the first end at which some stop string ends (not before `from` bytes), the
// longest of those that do.
std::string whole(const std::string& text, const Stops& stops, bool include, size_t from = 0) {
  for (size_t end = std::max<size_t>(from + 1, 1); end <= text.size(); end++) {
    const std::string* longest = nullptr;
    for (const std::string& s : stops)
      if (s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0 &&
          (!longest || s.size() > longest->size()))
        longest = &s;
    if (longest) return text.substr(0, include ? end : end - longest->size());
  }
  return text;
}

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const int n = utf8_sequence_length(text.substr(0, 4));
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

TEST(StopMatcher, AcrossPieces) {
  StopMatcher m({"</end>"});
  EXPECT_EQ(m.push("abc</e"), "abc");
  EXPECT_EQ(m.push("n"), "");
  EXPECT_EQ(m.push("x</"), "</enx");
  EXPECT_FALSE(m.stopped());
  EXPECT_EQ(m.push("end>more"), "");
  EXPECT_TRUE(m.stopped());
  EXPECT_EQ(m.matched(), "</end>");
  EXPECT_EQ(m.push("and more"), "");
}

TEST(StopMatcher, HoldsBackNothingThatIsCertain) {
  StopMatcher m({"aab"});
  EXPECT_EQ(m.push("aaa"), "a");  // two of them may begin "aab"
  EXPECT_EQ(m.push("a"), "a");
  EXPECT_EQ(m.finish(), "aa");
  EXPECT_FALSE(m.stopped());
}

TEST(StopMatcher, IncludesTheStopStringIfAsked) {
  StopMatcher m({"\n\n"}, true);
  EXPECT_EQ(m.push("a\n"), "a");
  EXPECT_EQ(m.push("\nb"), "\n\n");
  EXPECT_TRUE(m.stopped());
}

TEST(StopMatcher, EarlyStopStringsDoNotCount) {
  StopMatcher m({"ab"});
  EXPECT_EQ(m.push("xab", false), "xab");
  EXPECT_EQ(m.push("a", false), "");  // begins early, ends late: counts
  EXPECT_EQ(m.push("b"), "");
  EXPECT_TRUE(m.stopped());
}

// Any chunking gives the text that matching the whole gives. Few letters, so that stop strings
// overlap themselves and each other; one of them has two bytes.
TEST(StopMatcher, AnyChunkingEqualsTheWhole) {
  std::mt19937 random(1);
  const auto below = [&](size_t n) { return random() % n; };
  const Stops letters = {"a", "b", "é"};
  const auto word = [&](size_t n) {
    std::string s;
    for (size_t i = 0; i < n; i++) s += letters[below(3)];
    return s;
  };
  int n_stopped = 0;
  for (int round = 0; round < 20000; round++) {
    Stops stops;
    for (size_t i = below(4); i > 0; i--) stops.push_back(word(1 + below(5)));
    const std::string text = word(below(30));
    const bool include = below(2) == 0;
    // Cut at characters, as the Detokenizer gives it.
    std::vector<std::string> pieces(1);
    for (size_t i = 0; i < text.size();) {
      const auto n = static_cast<size_t>(utf8_sequence_length(std::string_view(text).substr(i, 4)));
      pieces.back() += text.substr(i, n);
      i += n;
      if (below(3) == 0) pieces.emplace_back();
    }
    const size_t n_early = below(3) == 0 ? below(pieces.size() + 1) : 0;
    size_t early_bytes = 0;
    StopMatcher m(stops, include);
    std::string out;
    for (size_t i = 0; i < pieces.size(); i++) {
      if (i < n_early) early_bytes += pieces[i].size();
      const std::string given = m.push(pieces[i], i >= n_early);
      ASSERT_TRUE(valid_utf8(given));
      out += given;
    }
    if (!m.stopped()) out += m.finish();
    n_stopped += m.stopped();
    ASSERT_EQ(out, whole(text, stops, include, early_bytes)) << "text " << text;
  }
  EXPECT_GT(n_stopped, 5000);
  EXPECT_LT(n_stopped, 19000);
}

}  // namespace
}  // namespace hob
