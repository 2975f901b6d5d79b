#pragma once
// Where the end of a text has occurred before in it. Ref: prompt lookup decoding; SuffixDecoding
// (research notes, specedge §2.2): the longest match is the best predictor.
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace hob {

// Of one growing text. Memory: about 60 bytes per token; time per token: constant.
class SuffixIndex {
 public:
  // The text is now `tokens`. Usually it has grown; where it changed, what came after is forgotten.
  void update(std::span<const int32_t> tokens);

  struct Match {
    int next = 0;    // position behind the earlier occurrence: what followed it starts there
    int length = 0;  // tokens that agree
  };
  // The longest earlier occurrence of the text's end, the latest of several; length 0 = none.
  Match longest_match() const;

  static constexpr int kShortest = 2;
  static constexpr int kLongest = 32;  // beyond, longer says nothing more

 private:
  // Candidates share the last kShortest tokens; so many of them, latest first, are compared.
  static constexpr int kCandidates = 64;

  uint64_t key_at(size_t end) const;
  int length_of(int end) const;
  void add(int32_t token);
  void cut(size_t n);

  std::vector<int32_t> tokens_;
  std::unordered_map<uint64_t, int32_t> last_;  // of the last kShortest tokens -> latest end
  std::vector<int32_t> before_;                 // [end] -> the end before it with the same key; -1
};

}  // namespace hob
