#include "text/merge_table.h"

#include "base/error.h"

namespace hob {

MergeTable::MergeTable(const Vocabulary& vocabulary, const std::vector<std::string>& lines)
    : vocabulary_(&vocabulary) {
  size_t n_slots = 16;
  while (n_slots < lines.size() * 2) n_slots *= 2;
  slots_.resize(n_slots);
  std::string joined;
  for (size_t rank = 0; rank < lines.size(); ++rank) {
    const std::string& line = lines[rank];
    // From 1 on, because the left part may itself begin with a space.
    const size_t space = line.find(' ', 1);
    if (space == std::string::npos || space + 1 == line.size()) {
      fail(Code::kDataLoss,
           "[tokenizer] tokenizer.ggml.merges[{}]: expected two parts, file has one", rank);
    }
    const std::string_view left = std::string_view(line).substr(0, space);
    const std::string_view right = std::string_view(line).substr(space + 1);
    joined.assign(left).append(right);
    const int32_t left_id = intern(left), right_id = intern(right), joined_id = intern(joined);
    Slot& slot = slots_[slot_of(left_id, right_id)];
    if (slot.left >= 0) continue;  // named twice: the earlier rank counts
    slot = {left_id, right_id, {static_cast<int32_t>(rank), joined_id}};
  }
}

int32_t MergeTable::intern(std::string_view text) {
  const TokenId id = vocabulary_->find_ordinary(text);
  return id >= 0 ? id : vocabulary_->size() + extra_.find_or_add(text);
}

int32_t MergeTable::symbol(std::string_view text) const {
  if (const TokenId id = vocabulary_->find_ordinary(text); id >= 0) return id;
  const int32_t extra = extra_.find(text);
  return extra < 0 ? -1 : vocabulary_->size() + extra;
}

size_t MergeTable::slot_of(int32_t left, int32_t right) const {
  // Fibonacci hashing: neighbouring ids spread over the whole table.
  const uint64_t key =
      static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  const size_t mask = slots_.size() - 1;
  size_t slot = (key * 0x9E3779B97F4A7C15ull >> 20) & mask;
  while (slots_[slot].left >= 0 && (slots_[slot].left != left || slots_[slot].right != right)) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  if (left < 0 || right < 0) return {};
  return slots_[slot_of(left, right)].merge;
}

}  // namespace hob
