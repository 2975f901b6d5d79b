#include "text/unicode.h"

#include <utf8proc.h>

#include <array>

namespace hob {
namespace {

bool is_white_space(uint32_t c, utf8proc_category_t category) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
         category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

uint32_t classes_of(uint32_t c) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (is_white_space(c, category)) return Rune::kSpace;
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return Rune::kLetter | Rune::kUpper;
    case UTF8PROC_CATEGORY_LL:
      return Rune::kLetter | Rune::kLower;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return Rune::kLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return Rune::kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return Rune::kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return Rune::kPunct;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return Rune::kSymbol;
    default:
      return 0;
  }
}

uint8_t byte_at(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

uint32_t code_point_at(std::string_view text, size_t i, int length) {
  static constexpr std::array<uint8_t, 5> kLeadMask = {0, 0x7F, 0x1F, 0x0F, 0x07};
  uint32_t c = byte_at(text, i) & kLeadMask[static_cast<size_t>(length)];
  for (int k = 1; k < length; ++k)
    c = (c << 6) | (byte_at(text, i + static_cast<size_t>(k)) & 0x3F);
  return c;
}

}  // namespace

Rune rune_of(uint32_t code_point) { return Rune(code_point | classes_of(code_point)); }

int utf8_sequence_length(std::string_view text) {
  if (text.empty()) return -1;
  const uint8_t lead = byte_at(text, 0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and values above U+10FFFF (Unicode
  // table 3-7).
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (int k = 1; k < length; ++k) {
    if (static_cast<size_t>(k) >= text.size()) return -1;
    const uint8_t b = byte_at(text, static_cast<size_t>(k));
    if (k == 1 ? (b < low || b > high) : (b & 0xC0) != 0x80) return 0;
  }
  return length;
}

RuneText decode_runes(std::string_view text) {
  // English is ASCII almost throughout: a table spares the category search.
  std::array<Rune, 128> ascii;
  for (uint32_t c = 0; c < 128; ++c) ascii[c] = rune_of(c);

  RuneText out;
  out.runes.reserve(text.size());
  out.begin_byte.reserve(text.size() + 1);
  for (size_t i = 0; i < text.size();) {
    out.begin_byte.push_back(static_cast<uint32_t>(i));
    if (byte_at(text, i) < 0x80) {
      out.runes.push_back(ascii[byte_at(text, i)]);
      ++i;
      continue;
    }
    const int length = utf8_sequence_length(text.substr(i, 4));
    if (length <= 0) {
      out.runes.push_back(Rune(0xFFFD | Rune::kSymbol | Rune::kInvalid));
      ++i;
      continue;
    }
    out.runes.push_back(rune_of(code_point_at(text, i, length)));
    i += static_cast<size_t>(length);
  }
  out.begin_byte.push_back(static_cast<uint32_t>(text.size()));
  return out;
}

void append_utf8(uint32_t c, std::string& out) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | ((c >> shift) & 0x3F)));
  };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (c >> 6)));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (c >> 12)));
    tail(6), tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | ((c >> 18) & 0x07)));
    tail(12), tail(6), tail(0);
  }
}

}  // namespace hob
