#pragma once
#include <bitset>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/vocabulary.h"

namespace hob {

// A stretch of text, or (token >= 0) a token that was found in it.
struct Fragment {
  std::string_view text;
  TokenId token = -1;
};

// Finds the tokens that are matched in the text itself before any merging: user-defined ones
// always, control and unknown ones where the caller allows it. Longer tokens are placed first, as
// llama.cpp does; equal lengths from the left. Immutable after construction: any thread. Keeps
// views into the vocabulary's texts.
class SpecialSplitter {
 public:
  explicit SpecialSplitter(const Vocabulary& vocabulary);

  // Appends the fragments of `text`. O(n + candidates * distinct lengths), where a candidate is a
  // byte that some special token begins with.
  void split(std::string_view text, bool parse_special, std::vector<Fragment>& out) const;

 private:
  struct Match {
    uint32_t begin;
    uint32_t end;        // of the token's text
    uint32_t eaten_end;  // with the whitespace that the token swallows
    TokenId id;
  };
  std::vector<Match> find_matches(std::string_view text, bool parse_special) const;

  const Vocabulary* vocabulary_;
  std::unordered_map<std::string_view, TokenId> specials_;
  std::vector<size_t> lengths_;    // descending
  std::bitset<65536> beginnings_;  // first two bytes of some special token
};

}  // namespace hob
