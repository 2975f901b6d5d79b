#include "text/hf/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "text/hf/raw_bytes.h"
#include "text/unicode.h"

namespace hob::hf {
namespace {

utf8proc_category_t category_of(uint32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// utf8proc_decompose() sorts marks by exchanging neighbours, quadratic in a run of them.
void sort_marks(std::vector<utf8proc_int32_t>& runes) {
  for (size_t i = 0; i < runes.size();) {
    size_t end = i;
    while (end < runes.size() && combining_class(runes[end]) != 0) ++end;
    std::stable_sort(runes.begin() + static_cast<std::ptrdiff_t>(i),
                     runes.begin() + static_cast<std::ptrdiff_t>(end),
                     [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    i = end + 1;
  }
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 128; });
}

}  // namespace

std::string to_normal_form(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  const bool compat = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> runes;
  runes.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, i));
    utf8proc_int32_t parts[32];  // the longest has 18 (U+FDFA)
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, parts, 32, options, &boundary);
    HOB_CHECK(n >= 0 && n <= 32);
    runes.insert(runes.end(), parts, parts + n);
  }
  sort_marks(runes);
  if (compose) {
    const auto how = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    const utf8proc_ssize_t n =
        utf8proc_normalize_utf32(runes.data(), static_cast<utf8proc_ssize_t>(runes.size()), how);
    HOB_CHECK(n >= 0);
    runes.resize(static_cast<size_t>(n));
  }
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t c : runes) append_utf8(static_cast<uint32_t>(c), out);
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const uint32_t c = next_code_point(text, i);
    if (c == 0x130) {  // the only character whose lower case is two
      out += "i\xCC\x87";
    } else {
      append_utf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
    }
  }
  return out;
}

bool is_mark(uint32_t c) { return rune_of(c).is(Rune::kMark); }
bool is_nonspacing_mark(uint32_t c) { return category_of(c) == UTF8PROC_CATEGORY_MN; }
bool is_white_space(uint32_t c) { return rune_of(c).is(Rune::kSpace); }
bool is_number(uint32_t c) { return rune_of(c).is(Rune::kNumber); }

bool is_other(uint32_t c) {
  switch (category_of(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
      return true;
    default:
      return false;
  }
}

bool is_punctuation(uint32_t c) {
  const bool ascii = (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
                     (c >= '{' && c <= '~');
  return ascii || rune_of(c).is(Rune::kPunct);
}

}  // namespace hob::hf
