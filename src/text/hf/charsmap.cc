#include "text/hf/charsmap.h"

#include <utf8proc.h>

#include "base/error.h"
#include "text/hf/raw_bytes.h"

namespace hob::hf {
namespace {

// Longer clusters are replaced character by character.
constexpr size_t kMaxClusterBytes = 5;

std::string decode_base64(std::string_view text, const std::string& where) {
  std::string out;
  uint32_t bits = 0;
  int n_bits = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) fail(Code::kDataLoss, "[tokenizer] {}: expected base64, file has none", where);
    bits = bits << 6 | static_cast<uint32_t>(value);
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    out.push_back(static_cast<char>(bits >> n_bits & 0xFF));
  }
  return out;
}

uint32_t u32_at(std::string_view bytes, size_t i) {
  uint32_t value = 0;
  for (size_t k = 4; k-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i + k]);
  return value;
}

// A unit of the double array (darts-clone's layout).
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FF; }
uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

}  // namespace

Charsmap::Charsmap(std::string_view base64, const std::string& where)
    : blob_(decode_base64(base64, where)) {
  const uint32_t n_bytes = blob_.size() < 4 ? 0 : u32_at(blob_, 0);
  if (n_bytes < 4 || n_bytes % 4 != 0 || n_bytes > blob_.size() - 4) {
    fail(Code::kDataLoss, "[tokenizer] {}: expected a trie of whole units, file has {} of {} bytes",
         where, n_bytes, blob_.size());
  }
  units_.resize(n_bytes / 4);
  for (size_t i = 0; i < units_.size(); ++i) units_[i] = u32_at(blob_, 4 + i * 4);
  replacements_ = std::string_view(blob_).substr(4 + n_bytes);
}

std::optional<std::string_view> Charsmap::find(std::string_view text) const {
  size_t node = offset_of(units_[0]);
  for (const char c : text) {
    const uint32_t byte = static_cast<uint8_t>(c);
    node ^= byte;
    if (byte == 0 || node >= units_.size()) return std::nullopt;
    const uint32_t unit = units_[node];
    if (label_of(unit) != byte) return std::nullopt;
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size() || value_of(units_[node]) > replacements_.size()) return std::nullopt;
    const std::string_view rest = replacements_.substr(value_of(units_[node]));
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

void Charsmap::apply_cluster(std::string_view cluster, std::string& out) const {
  if (cluster.size() <= kMaxClusterBytes) {
    if (const auto replaced = find(cluster)) {
      out += *replaced;
      return;
    }
  }
  for (size_t i = 0; i < cluster.size();) {
    const size_t begin = i;
    next_code_point(cluster, i);
    const std::string_view character = cluster.substr(begin, i - begin);
    out += find(character).value_or(character);
  }
}

std::string Charsmap::apply(std::string_view text, const WorkBudget& budget) const {
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  utf8proc_int32_t state = 0;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, i));
    size_t ahead = i;
    const bool last = i == text.size();
    const bool edge =
        last || utf8proc_grapheme_break_stateful(
                    c, static_cast<utf8proc_int32_t>(next_code_point(text, ahead)), &state);
    if (!edge) continue;
    apply_cluster(text.substr(begin, i - begin), out);
    budget.check_size(out.size());
    begin = i;
  }
  return out;
}

}  // namespace hob::hf
