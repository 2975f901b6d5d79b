#pragma once
// Hugging Face's pipeline works on Unicode text; hob takes any bytes. A byte that belongs to no
// valid UTF-8 travels through the pipeline as a private-use character, U+10FF00 + byte, and is
// turned back where tokens are made of bytes. The same characters in the text itself travel as
// their bytes, so that nothing can be taken for something else.
#include <cstdint>
#include <string>
#include <string_view>

namespace hob::hf {

// Valid UTF-8 for any bytes.
std::string with_carried_bytes(std::string_view bytes);
// The byte that `code_point` carries, -1 for an ordinary character.
inline int carried_byte(uint32_t code_point) {
  return code_point >= 0x10FF80 && code_point <= 0x10FFFF ? static_cast<int>(code_point & 0xFF)
                                                          : -1;
}
// The other way: the bytes that the text was made of.
std::string without_carried_bytes(std::string_view text);

// The code point at text[i], and i moved behind it. The text is valid UTF-8.
uint32_t next_code_point(std::string_view text, size_t& i);
// Start of the character that ends before `i` (i > 0).
size_t previous_character(std::string_view text, size_t i);

}  // namespace hob::hf
