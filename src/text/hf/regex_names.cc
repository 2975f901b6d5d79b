#include "text/hf/regex_names.h"

#include <algorithm>
#include <array>

namespace hob::hf {
namespace {

struct Named {
  std::string_view name;
  std::string_view ours;
};

// Class members. \s is White_Space in Oniguruma; PCRE2's own has U+180E too.
constexpr std::array kMembers = std::to_array<Named>({
    {"d", R"(\p{Nd})"},
    {"D", R"(\P{Nd})"},
    {"s", R"(\p{White_Space})"},
    {"S", R"(\P{White_Space})"},
    {"w", kOnigClassWord},
    {"h", "0-9A-Fa-f"},
    {"n", R"(\n)"},
    {"r", R"(\r)"},
    {"t", R"(\t)"},
    {"f", R"(\f)"},
    {"v", R"(\x0B)"},
    {"a", R"(\x07)"},
    {"e", R"(\x1B)"},
});
constexpr std::array kPosix = std::to_array<Named>({
    {"alpha", R"(\p{Alphabetic})"},
    {"digit", R"(\p{Nd})"},
    {"space", R"(\p{White_Space})"},
    {"upper", R"(\p{Uppercase})"},
    {"lower", R"(\p{Lowercase})"},
    {"word", kOnigClassWord},
    {"xdigit", "0-9A-Fa-f"},
});
constexpr std::array<std::string_view, 38> kCategories = {
    "c",  "cc", "cf", "cn", "co", "cs", "l",  "ll", "lm", "lo", "lt", "lu", "m",
    "mc", "me", "mn", "n",  "nd", "nl", "no", "p",  "pc", "pd", "pe", "pf", "pi",
    "po", "ps", "s",  "sc", "sk", "sm", "so", "z",  "zl", "zp", "zs", "any"};
constexpr std::array kProperties = std::to_array<Named>({
    {"alpha", "Alphabetic"},
    {"alphabetic", "Alphabetic"},
    {"digit", "Nd"},
    {"space", "White_Space"},
    {"whitespace", "White_Space"},
    {"upper", "Uppercase"},
    {"uppercase", "Uppercase"},
    {"lower", "Lowercase"},
    {"lowercase", "Lowercase"},
    {"punct", "P"},
    {"punctuation", "P"},
    {"letter", "L"},
    {"mark", "M"},
    {"number", "N"},
    {"symbol", "S"},
    {"separator", "Z"},
    {"emoji", "Emoji"},
    {"extendedpictographic", "Extended_Pictographic"},
});

template <size_t n>
std::string_view find(const std::array<Named, n>& table, std::string_view name) {
  for (const Named& row : table) {
    if (row.name == name) return row.ours;
  }
  return {};
}

}  // namespace

std::string_view class_escape_members(char letter) {
  return find(kMembers, std::string_view(&letter, 1));
}
std::string_view posix_class_members(std::string_view name) { return find(kPosix, name); }
std::string_view property_name(std::string_view name) { return find(kProperties, name); }

bool is_category(std::string_view name) {
  return std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
}

}  // namespace hob::hf
