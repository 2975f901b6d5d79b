#pragma once
// Pre-tokenizers of byte-level BPE: cut a text into the words that merges may not cross.
// Each published tokenizer defines its cut by one or more regexes, applied one after the other to
// the pieces that the one before left. Here every regex is a hand-written matcher over runes:
// linear, without recursion.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/unicode.h"

namespace hob {

// Runes [begin, end): what a regex may look at.
struct Piece {
  size_t begin;
  size_t end;
};

// The end of the match that begins at `pos`, or `pos` when there is none.
using Matcher = size_t (*)(const RuneText& text, size_t pos, Piece piece);

struct PreTokenizer {
  std::string_view name;            // value of tokenizer.ggml.pre
  std::span<const Matcher> stages;  // in order of application
  bool whole_word_first =
      false;             // a word that is in the vocabulary is taken whole ("ignore_merges")
  bool add_bos = false;  // what the family does when the file does not say
};

// nullptr when the name is none that hob knows. "" is "default", as in files from before the key
// existed.
const PreTokenizer* find_pretokenizer(std::string_view name);
std::span<const PreTokenizer> all_pretokenizers();

// Ends of the words, as rune indices, ascending; the last one is text.size().
std::vector<uint32_t> split_words(const PreTokenizer& pretokenizer, const RuneText& text);

}  // namespace hob
