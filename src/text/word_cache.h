#pragma once
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace hob {

// Ids of words already tokenised in this call. Natural text repeats its words, and a look-up is
// some ten times cheaper than merging. Keys are views into the text of the call. One per call: no
// locks, nothing grows for ever.
class WordCache {
 public:
  // Appends the ids of `word` to `out`; `tokenize(word, out)` is asked for words seen for the first
  // time.
  template <class Tokenize>
  void append(std::string_view word, std::vector<TokenId>& out, Tokenize&& tokenize) {
    if (word.size() > kMaxBytes) {
      tokenize(word, out);
      return;
    }
    if (const auto hit = words_.find(word); hit != words_.end()) {
      const auto [begin, n] = hit->second;
      out.insert(out.end(), ids_.begin() + begin, ids_.begin() + begin + n);
      return;
    }
    const size_t before = out.size();
    tokenize(word, out);
    if (words_.size() >= kMaxWords) return;
    words_.emplace(word, std::pair(static_cast<int32_t>(ids_.size()),
                                   static_cast<int32_t>(out.size() - before)));
    ids_.insert(ids_.end(), out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
  }

 private:
  static constexpr size_t kMaxBytes = 64;  // longer words hardly ever come back
  static constexpr size_t kMaxWords =
      65536;  // about 6 MB at most; the vocabulary of a long book is smaller
  std::unordered_map<std::string_view, std::pair<int32_t, int32_t>> words_;
  std::vector<TokenId> ids_;
};

}  // namespace hob
