#pragma once
// Oniguruma's names of sets of characters, in PCRE2's words.
#include <string_view>

namespace hob::hf {

// \w in a class, as members.
inline constexpr std::string_view kOnigClassWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside of one, Oniguruma looks Latin-1 up in a table, where 1, 2 and 3 as superscripts and the
// three fractions are word characters too.
inline constexpr std::string_view kOnigWord =
    R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

// What \LETTER, [:name:] and \p{name} stand for; "" when hob does not know. Properties are named in
// lower case without blanks, hyphens and underscores.
std::string_view class_escape_members(char letter);
std::string_view posix_class_members(std::string_view name);
std::string_view property_name(std::string_view name);
bool is_category(std::string_view name);  // "lu", "nd", ...: the same in both

}  // namespace hob::hf
