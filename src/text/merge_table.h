#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/string_table.h"
#include "text/vocabulary.h"

namespace hob {

// The merge list of a BPE file as a table (left symbol, right symbol) -> (rank, joined symbol). A
// symbol's number is its token id; texts that merges name although the vocabulary has no such token
// get numbers from n_vocab up: they may still be steps on the way to a token. Immutable after
// construction: any thread.
class MergeTable {
 public:
  struct Merge {
    int32_t rank = -1;  // -1: these two never merge
    int32_t joined = -1;
  };

  // Throws Error on a line that does not hold two parts.
  MergeTable(const Vocabulary& vocabulary, const std::vector<std::string>& lines);

  Merge find(int32_t left, int32_t right) const;
  int32_t symbol(std::string_view text) const;  // -1: neither token nor part of a merge

 private:
  struct Slot {
    int32_t left = -1;
    int32_t right = -1;
    Merge merge;
  };
  size_t slot_of(int32_t left, int32_t right) const;
  int32_t intern(std::string_view text);

  const Vocabulary* vocabulary_;
  StringTable extra_;        // texts that are no token
  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
};

}  // namespace hob
