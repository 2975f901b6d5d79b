#include "text/hf/prefix_table.h"

#include <algorithm>

namespace hob::hf {
namespace {

// The byte at `depth`, -1 behind the end: so a string comes before those that it begins.
int byte_at(const std::string& text, size_t depth) {
  return depth < text.size() ? static_cast<uint8_t>(text[depth]) : -1;
}

}  // namespace

PrefixTable::PrefixTable(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const Entry& a, const Entry& b) { return a.text < b.text; });
  const auto same = [](const Entry& a, const Entry& b) { return a.text == b.text; };
  entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
  uint32_t low = 0;
  for (size_t byte = 0; byte < 256; ++byte) {
    uint32_t high = low;
    while (high < entries_.size() && byte_at(entries_[high].text, 0) == static_cast<int>(byte))
      ++high;
    first_byte_[byte] = {low, high};
    low = high;
  }
}

void PrefixTable::narrow(uint32_t& low, uint32_t& high, size_t depth, char byte) const {
  const int wanted = static_cast<uint8_t>(byte);
  const auto begin = entries_.begin() + low, end = entries_.begin() + high;
  const auto first = std::lower_bound(
      begin, end, wanted, [&](const Entry& e, int b) { return byte_at(e.text, depth) < b; });
  const auto last = std::upper_bound(
      first, end, wanted, [&](int b, const Entry& e) { return b < byte_at(e.text, depth); });
  low = static_cast<uint32_t>(first - entries_.begin());
  high = static_cast<uint32_t>(last - entries_.begin());
}

}  // namespace hob::hf
