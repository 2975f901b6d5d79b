#include "text/string_table.h"

#include <functional>
#include <limits>

#include "base/error.h"

namespace hob {

void StringTable::reserve(size_t n_strings, size_t n_bytes) {
  bytes_.reserve(n_bytes);
  begin_.reserve(n_strings + 1);
}

std::string_view StringTable::operator[](int32_t number) const {
  const auto i = static_cast<size_t>(number);
  return std::string_view(bytes_).substr(begin_[i], begin_[i + 1] - begin_[i]);
}

size_t StringTable::slot_of(std::string_view text) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>{}(text)&mask;
  while (slots_[slot] != kNone && (*this)[slots_[slot]] != text) slot = (slot + 1) & mask;
  return slot;
}

void StringTable::grow() {
  std::vector<int32_t> old(slots_.size() * 2, kNone);
  old.swap(slots_);
  for (const int32_t number : old) {
    if (number != kNone) slots_[slot_of((*this)[number])] = number;
  }
}

int32_t StringTable::add(std::string_view text) {
  if (bytes_.size() + text.size() > std::numeric_limits<uint32_t>::max()) {
    fail(Code::kDataLoss, "[tokenizer] expected a vocabulary below 4 GiB, file has more");
  }
  const auto number = static_cast<int32_t>(size());
  bytes_.append(text);
  begin_.push_back(static_cast<uint32_t>(bytes_.size()));
  const size_t slot = slot_of((*this)[number]);
  if (slots_[slot] != kNone) return number;
  slots_[slot] = number;
  // Half full at most: a miss, the commonest look-up of a merge loop, then costs 2.5 probes on
  // average.
  if (++n_indexed_ * 2 > slots_.size()) grow();
  return number;
}

int32_t StringTable::find(std::string_view text) const { return slots_[slot_of(text)]; }

int32_t StringTable::find_or_add(std::string_view text) {
  const int32_t number = find(text);
  return number == kNone ? add(text) : number;
}

}  // namespace hob
