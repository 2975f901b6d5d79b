#pragma once
// Stop strings in a text that arrives in pieces.
#include <string>
#include <string_view>
#include <vector>

namespace hob {

// Ends the text at the stop string that is complete first (of several that end together, at the
// longest), whatever pieces it comes in. Holds back only what may still become a stop string, and
// only whole characters: what it returns is valid UTF-8 if the pieces and the stop strings are.
class StopMatcher {
 public:
  // `include_stop`: the text ends behind the stop string, not before it. Empty strings are ignored.
  explicit StopMatcher(const std::vector<std::string>& stops, bool include_stop = false);

  // Text that is certain now. A stop string that ends in this piece counts only if `may_stop`; one
  // that only begins in a piece that may not does count. After a stop nothing follows.
  std::string push(std::string_view text, bool may_stop = true);
  std::string finish();  // what is held back: the text ended otherwise
  bool stopped() const { return stopped_; }
  const std::string& matched() const { return matched_; }  // once stopped

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t> fallback;  // [i] longest proper prefix of text[0, i) that is its suffix
    size_t n_matched = 0;
  };
  const Pattern* advance(char c);
  std::string release(size_t n_bytes);

  std::vector<Pattern> patterns_;
  bool include_stop_;
  bool stopped_ = false;
  std::string matched_;
  std::string held_;  // not yet returned
};

}  // namespace hob
