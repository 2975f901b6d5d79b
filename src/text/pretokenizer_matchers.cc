#include "text/pretokenizer_matchers.h"

#include <algorithm>
#include <array>

namespace hob::matchers {
namespace {

constexpr uint32_t kWord = Rune::kLetter | Rune::kNumber;

bool is_class(const RuneText& text, size_t pos, size_t end, uint32_t classes) {
  return pos < end && text.runes[pos].is(classes);
}

bool is_char(const RuneText& text, size_t pos, size_t end, char c) {
  return pos < end && text.runes[pos].code_point() == static_cast<uint8_t>(c);
}

bool is_line_break(const RuneText& text, size_t pos, size_t end) {
  return is_char(text, pos, end, '\r') || is_char(text, pos, end, '\n');
}

// [^\s\p{L}\p{N}]
bool is_other(const RuneText& text, size_t pos, size_t end) {
  return pos < end && !text.runes[pos].is(kWord | Rune::kSpace);
}

template <class Predicate>
size_t skip_while(size_t pos, size_t end, Predicate&& holds) {
  while (pos < end && holds(pos)) ++pos;
  return pos;
}

size_t skip_class(const RuneText& text, size_t pos, size_t end, uint32_t classes) {
  return skip_while(pos, end, [&](size_t i) { return text.runes[i].is(classes); });
}

// At most `n_max` runes of `classes`.
size_t skip_some(const RuneText& text, size_t pos, Piece piece, uint32_t classes, size_t n_max) {
  return skip_class(text, pos, std::min(piece.end, pos + n_max), classes);
}

// 's|'t|'re|'ve|'m|'ll|'d
size_t contraction(const RuneText& text, size_t pos, size_t end, bool any_case) {
  if (!is_char(text, pos, end, '\'')) return pos;
  const auto letter = [&](size_t i) -> uint32_t {
    if (i >= end) return 0;
    const uint32_t c = text.runes[i].code_point();
    return any_case && c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
  };
  const uint32_t first = letter(pos + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return pos + 2;
  const uint32_t second = letter(pos + 2);
  const bool pair = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                    (first == 'l' && second == 'l');
  return pair ? pos + 3 : pos;
}

// \s*[\r\n]+|\s+(?!\S)|\s+   The first alternative only where `breaks`.
size_t white_space(const RuneText& text, size_t pos, size_t end, bool breaks) {
  const size_t run_end = skip_class(text, pos, end, Rune::kSpace);
  if (breaks) {
    for (size_t i = run_end; i > pos; --i) {
      if (is_line_break(text, i - 1, end)) return i;
    }
  }
  // (?!\S): before a word the run gives its last space to it, unless that is all it has.
  return run_end < end && run_end - pos > 1 ? run_end - 1 : run_end;
}

//  ?[^\s\p{L}\p{N}]+ and then any of \r, \n and, where `slash`, /
size_t other_then_breaks(const RuneText& text, size_t pos, size_t end, bool slash) {
  const size_t first = is_char(text, pos, end, ' ') ? pos + 1 : pos;
  if (!is_other(text, first, end)) return pos;
  const size_t last = skip_while(first, end, [&](size_t i) { return is_other(text, i, end); });
  return skip_while(last, end, [&](size_t i) {
    return is_line_break(text, i, end) || (slash && is_char(text, i, end, '/'));
  });
}

// What llama3, qwen2 and qwen35 share. `letters` is the class of the word's letters, also left out
// of "other".
size_t llama3_like(const RuneText& text, size_t pos, size_t end, size_t max_numbers,
                   uint32_t letters) {
  if (const size_t stop = contraction(text, pos, end, true); stop != pos) return stop;
  const Rune rune = text.runes[pos];
  const bool may_lead = !rune.is(kWord) && !is_line_break(text, pos, end);
  if (may_lead && is_class(text, pos + 1, end, letters))
    return skip_class(text, pos + 1, end, letters);
  if (rune.is(letters)) return skip_class(text, pos, end, letters);
  if (rune.is(Rune::kNumber)) {
    return skip_class(text, pos, std::min(end, pos + max_numbers), Rune::kNumber);
  }
  const auto is_rest = [&](size_t i) {
    return i < end && !text.runes[i].is(letters | kWord | Rune::kSpace);
  };
  const size_t first = is_char(text, pos, end, ' ') ? pos + 1 : pos;
  if (is_rest(first)) {
    const size_t last = skip_while(first, end, is_rest);
    return skip_while(last, end, [&](size_t i) { return is_line_break(text, i, end); });
  }
  return white_space(text, pos, end, true);
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
bool is_upper_like(Rune rune) {
  return rune.is(Rune::kLetter | Rune::kMark) && !rune.is(Rune::kLower);
}
// [\p{Ll}\p{Lm}\p{Lo}\p{M}]
bool is_lower_like(Rune rune) {
  return rune.is(Rune::kLetter | Rune::kMark) && !rune.is(Rune::kUpper);
}

// U*L+ from `pos`; `pos` when there is no match. U and L overlap (Lm, Lo, M), so when no L follows
// the longest U*, the regex gives back runes until one of them is an L.
size_t upper_then_lower(const RuneText& text, size_t pos, size_t end) {
  const size_t uppers =
      skip_while(pos, end, [&](size_t i) { return is_upper_like(text.runes[i]); });
  const size_t lowers =
      skip_while(uppers, end, [&](size_t i) { return is_lower_like(text.runes[i]); });
  if (lowers > uppers) return lowers;
  for (size_t i = uppers; i > pos; --i) {
    if (is_lower_like(text.runes[i - 1])) return i;
  }
  return pos;
}

// U+L* from `pos`; `pos` when there is no match.
size_t uppers_then_lower(const RuneText& text, size_t pos, size_t end) {
  const size_t uppers =
      skip_while(pos, end, [&](size_t i) { return is_upper_like(text.runes[i]); });
  if (uppers == pos) return pos;
  return skip_while(uppers, end, [&](size_t i) { return is_lower_like(text.runes[i]); });
}

// The two word alternatives of gpt-4o and tekken.
size_t cased_word(const RuneText& text, size_t pos, size_t end) {
  const bool may_lead = !text.runes[pos].is(kWord) && !is_line_break(text, pos, end);
  using Word = size_t (*)(const RuneText&, size_t, size_t);
  for (const Word word : {Word{upper_then_lower}, Word{uppers_then_lower}}) {
    if (may_lead) {
      if (const size_t stop = word(text, pos + 1, end); stop != pos + 1) return stop;
    }
    if (const size_t stop = word(text, pos, end); stop != pos) return stop;
  }
  return pos;
}

struct Range {
  uint32_t first;
  uint32_t last;
};

template <size_t n>
bool in_ranges(const std::array<Range, n>& ranges, uint32_t c) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), c,
                       [](uint32_t value, const Range& r) { return value < r.first; });
  return after != ranges.begin() && c <= std::prev(after)->last;
}

template <size_t n>
size_t skip_ranges(const RuneText& text, size_t pos, size_t end,
                   const std::array<Range, n>& ranges) {
  return skip_while(pos, end,
                    [&](size_t i) { return in_ranges(ranges, text.runes[i].code_point()); });
}

// \s?X+ where `skip(i)` returns the end of X* from i. A space may itself be an X (U+3000 is), so
// when nothing follows it the regex tries again without the \s.
template <class Skip>
size_t after_optional_space(const RuneText& text, size_t pos, size_t end, Skip&& skip) {
  if (is_class(text, pos, end, Rune::kSpace) && pos + 1 < end) {
    if (const size_t stop = skip(pos + 1); stop != pos + 1) return stop;
  }
  return skip(pos);
}

// Cased letters, as listed in DeepSeek's published tokenizer (uncased scripts are left out there).
constexpr std::array kDeepSeekLetters = std::to_array<Range>({
    {0x0041, 0x005A},   {0x0061, 0x007A},   {0x00B5, 0x00B5},   {0x00C0, 0x00D6},
    {0x00D8, 0x00F6},   {0x00F8, 0x01BA},   {0x01BC, 0x01BF},   {0x01C4, 0x0293},
    {0x0295, 0x02AF},   {0x0370, 0x0373},   {0x0376, 0x0376},   {0x0377, 0x0377},
    {0x037B, 0x037D},   {0x037F, 0x037F},   {0x0386, 0x0386},   {0x0388, 0x038A},
    {0x038C, 0x038C},   {0x038E, 0x03A1},   {0x03A3, 0x03F5},   {0x03F7, 0x0481},
    {0x048A, 0x052F},   {0x0531, 0x0556},   {0x10A0, 0x10C5},   {0x13A0, 0x13F5},
    {0x13F8, 0x13FD},   {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},
    {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},   {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},
    {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},   {0x1F59, 0x1F59},
    {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},
    {0x1FD0, 0x1FD3},   {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},
    {0x1FF6, 0x1FFC},   {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210A, 0x2113},
    {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},   {0x2126, 0x2126},
    {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},
    {0x2184, 0x2184},   {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},
    {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},   {0xA640, 0xA66D},   {0xA680, 0xA69B},
    {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},   {0xAB70, 0xABBF},
    {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2},
    {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
});
constexpr std::array kDeepSeekPunctuation = std::to_array<Range>({{0x21, 0x2F},
                                                                  {0x3A, 0x7E},
                                                                  {0x2018, 0x201F},
                                                                  {0x3000, 0x3002},
                                                                  {0xFF01, 0xFF0F},
                                                                  {0xFF1A, 0xFF5E}});
constexpr std::array kDeepSeekCjk = std::to_array<Range>({{0x0800, 0x9FA5}, {0xAC00, 0xD7FF}});
constexpr std::array kCjkKana = std::to_array<Range>({{0x3040, 0x30FF}, {0x4E00, 0x9FA5}});

}  // namespace

size_t gpt2(const RuneText& text, size_t pos, Piece piece) {
  const size_t end = piece.end;
  if (const size_t stop = contraction(text, pos, end, false); stop != pos) return stop;
  const size_t first = is_char(text, pos, end, ' ') ? pos + 1 : pos;
  if (is_class(text, first, end, Rune::kLetter)) return skip_class(text, first, end, Rune::kLetter);
  if (is_class(text, first, end, Rune::kNumber)) return skip_class(text, first, end, Rune::kNumber);
  if (is_other(text, first, end)) {
    return skip_while(first, end, [&](size_t i) { return is_other(text, i, end); });
  }
  return white_space(text, pos, end, false);
}

size_t llama3(const RuneText& text, size_t pos, Piece piece) {
  return llama3_like(text, pos, piece.end, 3, Rune::kLetter);
}

size_t qwen2(const RuneText& text, size_t pos, Piece piece) {
  return llama3_like(text, pos, piece.end, 1, Rune::kLetter);
}

size_t qwen35(const RuneText& text, size_t pos, Piece piece) {
  return llama3_like(text, pos, piece.end, 1, Rune::kLetter | Rune::kMark);
}

size_t gpt4o(const RuneText& text, size_t pos, Piece piece) {
  const size_t end = piece.end;
  if (const size_t stop = cased_word(text, pos, end); stop != pos)
    return contraction(text, stop, end, true);
  if (is_class(text, pos, end, Rune::kNumber)) return skip_some(text, pos, piece, Rune::kNumber, 3);
  if (const size_t stop = other_then_breaks(text, pos, end, true); stop != pos) return stop;
  return white_space(text, pos, end, true);
}

size_t tekken(const RuneText& text, size_t pos, Piece piece) {
  const size_t end = piece.end;
  if (const size_t stop = cased_word(text, pos, end); stop != pos) return stop;
  if (is_class(text, pos, end, Rune::kNumber)) return pos + 1;
  if (const size_t stop = other_then_breaks(text, pos, end, true); stop != pos) return stop;
  return white_space(text, pos, end, true);
}

size_t one_number(const RuneText& text, size_t pos, Piece piece) {
  return skip_some(text, pos, piece, Rune::kNumber, 1);
}

size_t three_numbers(const RuneText& text, size_t pos, Piece piece) {
  return skip_some(text, pos, piece, Rune::kNumber, 3);
}

size_t numbers(const RuneText& text, size_t pos, Piece piece) {
  return skip_class(text, pos, piece.end, Rune::kNumber);
}

size_t three_digits(const RuneText& text, size_t pos, Piece piece) {
  if (piece.end - pos < 3) return pos;
  for (size_t i = pos; i < pos + 3; ++i) {
    if (text.runes[i].code_point() < '0' || text.runes[i].code_point() > '9') return pos;
  }
  return pos + 3;
}

size_t punctuation(const RuneText& text, size_t pos, Piece piece) {
  return skip_while(pos, piece.end, [&](size_t i) {
    const Rune rune = text.runes[i];
    return rune.is(Rune::kPunct) ||
           (rune.code_point() < 128 && rune.code_point() != '`' && rune.is(Rune::kSymbol));
  });
}

size_t falcon_punctuation(const RuneText& text, size_t pos, Piece piece) {
  return skip_while(pos, piece.end, [&](size_t i) {
    const Rune rune = text.runes[i];
    return rune.is(Rune::kPunct) || (rune.code_point() < 128 && rune.is(Rune::kSymbol));
  });
}

size_t line_break(const RuneText& text, size_t pos, Piece piece) {
  return is_line_break(text, pos, piece.end) ? pos + 1 : pos;
}

size_t deepseek_letters(const RuneText& text, size_t pos, Piece piece) {
  return after_optional_space(text, pos, piece.end, [&](size_t i) {
    return skip_ranges(text, i, piece.end, kDeepSeekLetters);
  });
}

size_t deepseek_punctuation(const RuneText& text, size_t pos, Piece piece) {
  return after_optional_space(text, pos, piece.end, [&](size_t i) {
    return skip_ranges(text, i, piece.end, kDeepSeekPunctuation);
  });
}

size_t trailing_space(const RuneText& text, size_t pos, Piece piece) {
  // Inside a run of spaces the run's first rune has failed already; looking again would be
  // quadratic.
  if (pos > piece.begin && text.runes[pos - 1].is(Rune::kSpace)) return pos;
  return skip_class(text, pos, piece.end, Rune::kSpace) == piece.end ? piece.end : pos;
}

size_t deepseek_cjk(const RuneText& text, size_t pos, Piece piece) {
  return skip_ranges(text, pos, piece.end, kDeepSeekCjk);
}

size_t coder_letters(const RuneText& text, size_t pos, Piece piece) {
  return after_optional_space(text, pos, piece.end, [&](size_t i) {
    return skip_class(text, i, piece.end, Rune::kLetter);
  });
}

size_t coder_punctuation(const RuneText& text, size_t pos, Piece piece) {
  return after_optional_space(
      text, pos, piece.end, [&](size_t i) { return skip_class(text, i, piece.end, Rune::kPunct); });
}

size_t cjk_kana(const RuneText& text, size_t pos, Piece piece) {
  return skip_ranges(text, pos, piece.end, kCjkKana);
}

size_t deepseek_v3(const RuneText& text, size_t pos, Piece piece) {
  const size_t end = piece.end;
  constexpr uint32_t kMarks = Rune::kPunct | Rune::kSymbol;
  const auto ascii_letter = [&](size_t i) {
    const uint32_t c = text.runes[i].code_point();
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  };
  const Rune rune = text.runes[pos];
  if (rune.code_point() < 128 && rune.is(kMarks)) {
    const size_t stop = skip_while(pos + 1, end, ascii_letter);
    if (stop != pos + 1) return stop;
  }
  constexpr uint32_t kLetters = Rune::kLetter | Rune::kMark;
  const bool may_lead = !rune.is(Rune::kLetter | kMarks) && !is_line_break(text, pos, end);
  if (may_lead && is_class(text, pos + 1, end, kLetters))
    return skip_class(text, pos + 1, end, kLetters);
  if (rune.is(kLetters)) return skip_class(text, pos, end, kLetters);
  const size_t first = is_char(text, pos, end, ' ') ? pos + 1 : pos;
  if (is_class(text, first, end, kMarks)) {
    const size_t last = skip_class(text, first, end, kMarks);
    return skip_while(last, end, [&](size_t i) { return is_line_break(text, i, end); });
  }
  return rune.is(Rune::kSpace) ? white_space(text, pos, end, true) : pos;
}

}  // namespace hob::matchers
