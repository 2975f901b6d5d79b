#include "text/hf/raw_bytes.h"

#include "text/unicode.h"

namespace hob::hf {
namespace {

constexpr uint32_t kFirst = 0x10FF00;
// All carriers begin with these two bytes of UTF-8 (U+10F000..U+10FFFF).
constexpr std::string_view kLead = "\xF4\x8F";

}  // namespace

uint32_t next_code_point(std::string_view text, size_t& i) {
  const auto byte = [&](size_t k) { return static_cast<uint32_t>(static_cast<uint8_t>(text[k])); };
  const uint32_t lead = byte(i++);
  if (lead < 0x80) return lead;
  const int n_more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  uint32_t c = lead & (0x3Fu >> n_more);
  for (int k = 0; k < n_more && i < text.size(); ++k) c = c << 6 | (byte(i++) & 0x3F);
  return c;
}

size_t previous_character(std::string_view text, size_t i) {
  do {
    --i;
  } while (i > 0 && (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80);
  return i;
}

std::string with_carried_bytes(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const int length = utf8_sequence_length(bytes.substr(i, 4));
    size_t n = length > 0 ? static_cast<size_t>(length) : 1;
    size_t end = i;
    const bool carried =
        length <= 0 || (length == 4 && carried_byte(next_code_point(bytes, end)) >= 0);
    if (!carried) {
      out.append(bytes, i, n);
      i += n;
      continue;
    }
    for (; n > 0; --n) append_utf8(kFirst + static_cast<uint8_t>(bytes[i++]), out);
  }
  return out;
}

std::string without_carried_bytes(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  for (size_t i = text.find(kLead); i != std::string_view::npos; i = text.find(kLead, i)) {
    size_t end = i;
    const int byte = carried_byte(next_code_point(text, end));
    if (byte >= 0) {
      out.append(text, begin, i - begin);
      out.push_back(static_cast<char>(byte));
      begin = end;
    }
    i = end;
  }
  out.append(text, begin);
  return out;
}

}  // namespace hob::hf
