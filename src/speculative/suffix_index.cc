#include "speculative/suffix_index.h"

#include <algorithm>

namespace hob {

// Ends are positions behind the last token of an n-gram: end e covers tokens [e - kShortest, e).
uint64_t SuffixIndex::key_at(size_t end) const {
  static_assert(kShortest == 2, "the key holds two tokens exactly");
  return static_cast<uint64_t>(static_cast<uint32_t>(tokens_[end - 2])) << 32 |
         static_cast<uint32_t>(tokens_[end - 1]);
}

void SuffixIndex::add(int32_t token) {
  tokens_.push_back(token);
  const size_t end = tokens_.size();
  before_.resize(end + 1, -1);
  if (end < static_cast<size_t>(kShortest)) return;
  const auto [entry, is_new] = last_.try_emplace(key_at(end), -1);
  before_[end] = entry->second;
  entry->second = static_cast<int32_t>(end);
}

void SuffixIndex::cut(size_t n) {
  while (tokens_.size() > n) {
    const size_t end = tokens_.size();
    if (end >= static_cast<size_t>(kShortest)) {
      const auto entry = last_.find(key_at(end));
      if (before_[end] < 0)
        last_.erase(entry);
      else
        entry->second = before_[end];
    }
    before_.pop_back();
    tokens_.pop_back();
  }
}

void SuffixIndex::update(std::span<const int32_t> tokens) {
  const auto differ = std::mismatch(tokens_.begin(), tokens_.end(), tokens.begin(), tokens.end());
  cut(static_cast<size_t>(differ.first - tokens_.begin()));
  for (size_t i = tokens_.size(); i < tokens.size(); i++) add(tokens[i]);
}

// How many tokens before `end` agree with the text's last ones.
int SuffixIndex::length_of(int end) const {
  int n = 0;
  const auto size = static_cast<int>(tokens_.size());
  while (n < kLongest && n < end &&
         tokens_[static_cast<size_t>(end - 1 - n)] == tokens_[static_cast<size_t>(size - 1 - n)])
    n++;
  return n;
}

SuffixIndex::Match SuffixIndex::longest_match() const {
  Match best;
  if (tokens_.size() < static_cast<size_t>(kShortest)) return best;
  int32_t end = before_.back();
  for (int i = 0; i < kCandidates && end >= 0; i++, end = before_[static_cast<size_t>(end)]) {
    const int length = length_of(end);
    if (length > best.length) best = {end, length};
    if (length == kLongest) break;
  }
  return best;
}

}  // namespace hob
