#include "text/special_split.h"

#include <algorithm>

#include "base/error.h"

namespace hob {
namespace {

// Published ones have at most some 50 bytes. A bound keeps the search fast whatever the file says.
constexpr size_t kMaxBytes = 1024;

// The first two bytes; a missing second one reads 0.
size_t beginning(std::string_view text) {
  const size_t second = text.size() > 1 ? static_cast<uint8_t>(text[1]) : 0;
  return static_cast<size_t>(static_cast<uint8_t>(text[0])) << 8 | second;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

SpecialSplitter::SpecialSplitter(const Vocabulary& vocabulary) : vocabulary_(&vocabulary) {
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const TokenType type = vocabulary.type(id);
    if (type != TokenType::kControl && type != TokenType::kUserDefined &&
        type != TokenType::kUnknown)
      continue;
    const std::string_view text = vocabulary.text(id);
    if (text.empty()) continue;
    specials_.emplace(text, id);
    lengths_.push_back(text.size());
    if (text.size() > kMaxBytes) {
      fail(Code::kDataLoss,
           "[tokenizer] token {}: expected a special token of at most {} bytes, file has {}", id,
           kMaxBytes, text.size());
    }
    if (text.size() > 1) {
      beginnings_.set(beginning(text));
    } else {
      for (size_t second = 0; second < 256; ++second) {
        beginnings_.set(beginning(text) | second);
      }
    }
  }
  std::sort(lengths_.begin(), lengths_.end(), std::greater<>());
  lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
}

std::vector<SpecialSplitter::Match> SpecialSplitter::find_matches(std::string_view text,
                                                                  bool parse_special) const {
  std::vector<uint32_t> candidates;
  for (size_t i = 0; i < text.size(); ++i) {
    if (beginnings_[beginning(text.substr(i, 2))]) candidates.push_back(static_cast<uint32_t>(i));
  }
  std::vector<Match> matches;
  if (candidates.empty()) return matches;
  std::vector<bool> taken(text.size(), false);
  for (const size_t length : lengths_) {
    for (const uint32_t begin : candidates) {
      if (begin + length > text.size()) break;
      // What is taken is at least as long as this, so it covers an end whenever it overlaps.
      if (taken[begin] || taken[begin + length - 1]) continue;
      const auto found = specials_.find(text.substr(begin, length));
      if (found == specials_.end()) continue;
      const TokenId id = found->second;
      if (!parse_special && vocabulary_->type(id) != TokenType::kUserDefined) continue;
      size_t eaten_end = begin + length;
      if (vocabulary_->strips_right(id)) {
        while (eaten_end < text.size() && !taken[eaten_end] && is_space(text[eaten_end]))
          ++eaten_end;
      }
      std::fill(taken.begin() + begin, taken.begin() + static_cast<std::ptrdiff_t>(eaten_end),
                true);
      matches.push_back(
          {begin, static_cast<uint32_t>(begin + length), static_cast<uint32_t>(eaten_end), id});
    }
  }
  std::sort(matches.begin(), matches.end(),
            [](const Match& a, const Match& b) { return a.begin < b.begin; });
  return matches;
}

void SpecialSplitter::split(std::string_view text, bool parse_special,
                            std::vector<Fragment>& out) const {
  size_t begin = 0;
  for (const Match& match : find_matches(text, parse_special)) {
    if (match.begin > begin) out.push_back({text.substr(begin, match.begin - begin), -1});
    out.push_back({text.substr(match.begin, match.end - match.begin), match.id});
    begin = match.eaten_end;
  }
  if (begin < text.size()) out.push_back({text.substr(begin), -1});
}

}  // namespace hob
