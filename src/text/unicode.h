#pragma once
// UTF-8 and the few Unicode properties that tokenizers ask about.
// Properties come from utf8proc; whitespace is the White_Space property, as \s in the tokenizers'
// own regexes.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hob {

// One decoded character: bits 0..20 the code point, bits 21.. its classes.
class Rune {
 public:
  enum Class : uint32_t {
    kLetter = 1u << 21,   // \p{L}
    kNumber = 1u << 22,   // \p{N}
    kMark = 1u << 23,     // \p{M}
    kPunct = 1u << 24,    // \p{P}
    kSymbol = 1u << 25,   // \p{S}
    kSpace = 1u << 26,    // \s
    kUpper = 1u << 27,    // \p{Lu} or \p{Lt}
    kLower = 1u << 28,    // \p{Ll}
    kInvalid = 1u << 29,  // a byte that is no UTF-8; its code point reads U+FFFD
  };

  Rune() = default;
  explicit Rune(uint32_t bits) : bits_(bits) {}

  uint32_t code_point() const { return bits_ & 0x1FFFFF; }
  bool is(uint32_t classes) const { return (bits_ & classes) != 0; }  // any of them

 private:
  uint32_t bits_ = 0;
};

Rune rune_of(uint32_t code_point);

// A text as runes, with the byte offset of each. begin_byte has one entry more than there are
// runes: the size.
struct RuneText {
  std::vector<Rune> runes;
  std::vector<uint32_t> begin_byte;

  size_t size() const { return runes.size(); }
};

// Strict decoding (no overlong forms, surrogates or values above U+10FFFF). Each byte that belongs
// to no valid sequence becomes one rune of class kInvalid, so the bytes of the text are still
// exactly the runes' bytes.
RuneText decode_runes(std::string_view text);

// Length of the valid UTF-8 sequence at the start of `text`: 1..4; 0 when it is broken; -1 when it
// is a valid beginning that the end of `text` cuts off.
int utf8_sequence_length(std::string_view text);

void append_utf8(uint32_t code_point, std::string& out);

inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace hob
