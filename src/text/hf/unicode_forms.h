#pragma once
// Unicode's normal forms, and what else normalizers ask about characters.
#include <cstdint>
#include <string>
#include <string_view>

namespace hob::hf {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// `text`: valid UTF-8. O(n log n) whatever the text: long runs of combining marks too.
std::string to_normal_form(std::string_view text, NormalForm form);

std::string to_lower(std::string_view text);  // each character by itself
bool is_mark(uint32_t code_point);            // \p{M}
bool is_nonspacing_mark(uint32_t code_point);
bool is_other(uint32_t code_point);        // Cc, Cf, Co, Cs: control, format, private
bool is_white_space(uint32_t code_point);  // White_Space
bool is_punctuation(uint32_t code_point);  // ASCII's 32 and \p{P}
bool is_number(uint32_t code_point);       // \p{N}

}  // namespace hob::hf
