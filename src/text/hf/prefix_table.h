#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hob::hf {

// Finds which of many strings a text begins with. The strings lie sorted, and a search narrows the
// range that still fits byte by byte: no nodes, no hashing, O(length * log n). Immutable once
// built: any thread.
class PrefixTable {
 public:
  struct Entry {
    std::string text;
    int32_t id;
  };

  PrefixTable() = default;
  // Texts must not be empty; of equal ones the first is found.
  explicit PrefixTable(std::vector<Entry> entries);

  bool empty() const { return entries_.empty(); }
  // visit(length, id) for every entry that `text` begins with, shortest first.
  template <class Visit>
  void prefixes(std::string_view text, Visit&& visit) const {
    if (text.empty()) return;
    auto [low, high] = first_byte_[static_cast<uint8_t>(text[0])];
    for (size_t length = 1; low < high; ++length) {
      if (entries_[low].text.size() == length) visit(length, entries_[low].id);
      if (length == text.size()) return;
      narrow(low, high, length, text[length]);
    }
  }

 private:
  // Entries of [low, high) that have `byte` at `depth`.
  void narrow(uint32_t& low, uint32_t& high, size_t depth, char byte) const;

  std::vector<Entry> entries_;  // sorted, distinct
  std::array<std::pair<uint32_t, uint32_t>, 256> first_byte_{};
};

}  // namespace hob::hf
