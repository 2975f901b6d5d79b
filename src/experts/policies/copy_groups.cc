#include "experts/policies/copy_groups.h"

#include <algorithm>

#include "base/error.h"

namespace hob {

CopyGroups::CopyGroups(const PolicyShape& shape, int n_classes)
    : n_groups_(static_cast<size_t>(shape.n_layers) * static_cast<size_t>(n_classes)),
      first_group_(static_cast<size_t>(shape.n_copies())),
      rank_(first_group_.size()),
      class_(first_group_.size(), 0),
      evictable_(first_group_.size(), 0) {
  HOB_CHECK(std::is_sorted(shape.layer_of.begin(), shape.layer_of.end()));
  HOB_CHECK(shape.layer_of.empty() ||
            (shape.layer_of.front() >= 0 && shape.layer_of.back() < shape.n_layers));
  const auto& of = shape.layer_of;
  for (const Precision pool : {Precision::kHigh, Precision::kLow})
    for (int32_t layer = 0; layer < shape.n_layers; layer++) {
      const auto [begin, end] = std::equal_range(of.begin(), of.end(), layer);
      Group group;
      group.first = shape.copy_of(static_cast<int>(begin - of.begin()), pool);
      group.end = shape.copy_of(static_cast<int>(end - of.begin()), pool);
      group.layer = layer;
      for (int32_t c = group.first; c < group.end; c++)
        first_group_[static_cast<size_t>(c)] = static_cast<int32_t>(groups_.size());
      for (int cls = 0; cls < n_classes; cls++) {
        group.cls = cls;
        groups_.push_back(group);
      }
    }
}

void CopyGroups::set_rank(int copy, CopyRank rank) {
  const auto i = static_cast<size_t>(copy);
  const CopyRank old = rank_[i];
  rank_[i] = rank;
  if (!evictable_[i]) return;
  Group& group = groups_[group_of(copy)];
  if (group.stale) return;
  if (copy == group.best)
    group.stale = old < rank;
  else if (rank < rank_[static_cast<size_t>(group.best)])
    group.best = copy;
}

void CopyGroups::set_class(int copy, int cls) {
  const auto i = static_cast<size_t>(copy);
  if (class_[i] == cls) return;
  if (evictable_[i]) leave(copy);
  class_[i] = static_cast<uint8_t>(cls);
  if (evictable_[i]) enter(copy);
}

void CopyGroups::set_evictable(int copy, bool evictable) {
  const auto i = static_cast<size_t>(copy);
  HOB_CHECK(i < evictable_.size());
  if (evictable_[i] == static_cast<uint8_t>(evictable)) return;
  evictable_[i] = evictable;
  if (evictable)
    enter(copy);
  else
    leave(copy);
}

void CopyGroups::enter(int copy) {
  Group& group = groups_[group_of(copy)];
  if (++group.n_evictable == 1) {
    group.best = copy;
    group.stale = false;
  } else if (!group.stale && rank(copy) < rank(group.best)) {
    group.best = copy;
  }
}

void CopyGroups::leave(int copy) {
  Group& group = groups_[group_of(copy)];
  group.n_evictable--;
  if (copy == group.best) group.stale = true;
}

void CopyGroups::refresh(Group& group) const {
  group.best = -1;
  for (int32_t c = group.first; c < group.end; c++) {
    const auto i = static_cast<size_t>(c);
    if (!evictable_[i] || class_[i] != group.cls) continue;
    if (group.best < 0 || rank_[i] < rank_[static_cast<size_t>(group.best)]) group.best = c;
  }
  group.stale = false;
}

}  // namespace hob
