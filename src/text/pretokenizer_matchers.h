#pragma once
// The matchers behind pretokenizer.h's table. The comment of each is the regex it stands for.
#include "text/pretokenizer.h"

namespace hob::matchers {

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t gpt2(const RuneText& text, size_t pos, Piece piece);

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t llama3(const RuneText& text, size_t pos, Piece piece);
// ... with \p{N} for \p{N}{1,3}
size_t qwen2(const RuneText& text, size_t pos, Piece piece);
// ... with \p{N}, [\p{L}\p{M}]+ for \p{L}+, and \p{M} in the third alternative's negated class
size_t qwen35(const RuneText& text, size_t pos, Piece piece);

// With U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L = [\p{Ll}\p{Lm}\p{Lo}\p{M}], C =
// (?i:'s|'t|'re|'ve|'m|'ll|'d):
// [^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?|\p{N}{1,3}|
// ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t gpt4o(const RuneText& text, size_t pos, Piece piece);
// ... without C and with \p{N}
size_t tekken(const RuneText& text, size_t pos, Piece piece);

size_t one_number(const RuneText& text, size_t pos, Piece piece);          // \p{N}
size_t three_numbers(const RuneText& text, size_t pos, Piece piece);       // \p{N}{1,3}
size_t numbers(const RuneText& text, size_t pos, Piece piece);             // \p{N}+
size_t three_digits(const RuneText& text, size_t pos, Piece piece);        // [0-9][0-9][0-9]
size_t punctuation(const RuneText& text, size_t pos, Piece piece);         // [\p{P}\$\+<=>\^~\|]+
size_t falcon_punctuation(const RuneText& text, size_t pos, Piece piece);  // [\p{P}\$\+<=>\^~\|`]+

size_t line_break(const RuneText& text, size_t pos, Piece piece);  // [\r\n]
size_t deepseek_letters(const RuneText& text, size_t pos,
                        Piece piece);  // \s?[A-Za-z and listed ranges]+
size_t deepseek_punctuation(const RuneText& text, size_t pos,
                            Piece piece);  // \s?[!-/:-~！-／：-～‘-‟　-。]+
size_t trailing_space(const RuneText& text, size_t pos, Piece piece);  // \s+$
size_t deepseek_cjk(const RuneText& text, size_t pos, Piece piece);    // [一-龥ࠀ-一가-퟿]+
size_t coder_letters(const RuneText& text, size_t pos, Piece piece);   // \s?\p{L}+
size_t coder_punctuation(const RuneText& text, size_t pos, Piece piece);  // \s?\p{P}+
size_t cjk_kana(const RuneText& text, size_t pos, Piece piece);  // [一-龥぀-ゟ゠-ヿ]+

// [!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
// ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t deepseek_v3(const RuneText& text, size_t pos, Piece piece);

}  // namespace hob::matchers
