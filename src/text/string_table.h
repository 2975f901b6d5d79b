#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hob {

// Numbers distinct strings 0, 1, 2, ... in order of arrival. All bytes lie in one arena and the
// index is one flat table, because a vocabulary of 150 000 strings as nodes of a std::unordered_map
// costs three times the memory.
class StringTable {
 public:
  static constexpr int32_t kNone = -1;

  void reserve(size_t n_strings, size_t n_bytes);
  // Adds `text` whether or not it is there already; look-ups keep finding the first. Returns its
  // number.
  int32_t add(std::string_view text);
  int32_t find(std::string_view text) const;  // kNone when absent
  int32_t find_or_add(std::string_view text);

  std::string_view operator[](int32_t number) const;
  size_t size() const { return begin_.size() - 1; }

 private:
  size_t slot_of(std::string_view text) const;  // its slot, or the empty one where it belongs
  void grow();

  std::string bytes_;
  std::vector<uint32_t> begin_ = {0};                             // size() + 1 offsets into bytes_
  std::vector<int32_t> slots_ = std::vector<int32_t>(16, kNone);  // open addressing; a power of two
  size_t n_indexed_ = 0;
};

}  // namespace hob
