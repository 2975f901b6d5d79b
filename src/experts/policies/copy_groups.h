#pragma once
// The evictable copies in groups of one precision and one layer, and in each group the one that
// goes first. Within a layer the order of two experts rarely changes (it is the order of their own
// records), while what a layer is worth against another changes with every layer that is computed.
// So a decision looks at one candidate per layer: some 50 comparisons instead of 2000 slots; and
// after a change at most the experts of one layer are compared again.
#include <cstdint>
#include <tuple>
#include <vector>

#include "experts/policy.h"

namespace hob {

// The smaller goes first; equal keys: the smaller tie, e.g. the older use.
struct CopyRank {
  double key = 0;
  int64_t tie = 0;
  friend bool operator<(const CopyRank& a, const CopyRank& b) {
    return a.key < b.key || (a.key == b.key && a.tie < b.tie);
  }
};

class CopyGroups {
 public:
  // n_classes: a layer's copies may be split further, e.g. pinned ones and others. All begin in
  // class 0.
  explicit CopyGroups(const PolicyShape& shape, int n_classes = 1);

  const CopyRank& rank(int copy) const { return rank_[static_cast<size_t>(copy)]; }
  void set_rank(int copy, CopyRank rank);
  void set_class(int copy, int cls);
  void set_evictable(int copy, bool evictable);
  bool evictable(int copy) const { return evictable_[static_cast<size_t>(copy)]; }

  // The evictable copy of `pool` with the smallest value(layer, class, key), which must not
  // decrease with the key; equal values: the smaller tie, then the lower id. -1 = none.
  template <class Value>
  int least(Precision pool, Value value) {
    int best = -1;
    decltype(value(0, 0, 0.0)) best_value{};
    const auto first = static_cast<size_t>(pool) * n_groups_;
    for (size_t g = first; g < first + n_groups_; g++) {
      Group& group = groups_[g];
      if (group.n_evictable == 0) continue;
      if (group.stale) refresh(group);
      const CopyRank& r = rank(group.best);
      const auto v = value(group.layer, group.cls, r.key);
      if (best >= 0 && !(v < best_value || (!(best_value < v) && r.tie < rank(best).tie))) continue;
      best = group.best;
      best_value = v;
    }
    return best;
  }

 private:
  struct Group {
    int32_t first = 0, end = 0;  // copies of the layer; those of other classes lie among them
    int32_t layer = 0;
    int32_t cls = 0;
    bool stale = false;  // `best` may be wrong
    int32_t n_evictable = 0;
    int32_t best = -1;
  };
  size_t group_of(int copy) const {
    const auto i = static_cast<size_t>(copy);
    return static_cast<size_t>(first_group_[i]) + class_[i];
  }
  void refresh(Group& group) const;
  void enter(int copy);
  void leave(int copy);

  size_t n_groups_;  // of one precision
  std::vector<Group> groups_;
  std::vector<int32_t> first_group_;  // [copy] group of its layer's class 0
  std::vector<CopyRank> rank_;        // [copy]
  std::vector<uint8_t> class_;        // [copy]
  std::vector<uint8_t> evictable_;    // [copy]
};

// A policy whose candidates are kept in such groups.
class GroupedPolicy : public ExpertPolicy {
 public:
  explicit GroupedPolicy(const PolicyShape& shape, int n_classes = 1)
      : shape_(shape), groups_(shape, n_classes) {}
  void set_evictable(int copy, bool evictable) final { groups_.set_evictable(copy, evictable); }

 protected:
  // Layers from the one that needs room to `layer`, in the order of computation: n_layers for the
  // present one, whose turn comes again only with the next token.
  int layers_until(int layer, const EvictionRequest& request) const {
    return layer > request.layer ? layer - request.layer : layer - request.layer + shape_.n_layers;
  }
  void set_rank_of_both(int expert, CopyRank rank) {
    groups_.set_rank(expert, rank);
    groups_.set_rank(shape_.copy_of(expert, Precision::kLow), rank);
  }

  const PolicyShape shape_;
  CopyGroups groups_;
};

}  // namespace hob
