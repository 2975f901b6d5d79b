// The most frequent experts stay, the others share the rest of the slots by LRU. Frequent = in the
// first kLearnSteps steps after the start, then for good: the static hot list that other engines
// use. The argument is the share of the slots that are pinned: "static-pin:0.5". A pinned copy goes
// only when nothing else may.
#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

constexpr int64_t kLearnSteps = 32;
constexpr double kDefaultShare = 0.5;

class StaticPinPolicy final : public GroupedPolicy {
 public:
  StaticPinPolicy(const PolicyShape& shape, double share)
      : GroupedPolicy(shape, /*n_classes=*/2),
        // A cache that does not say how much it holds: a quarter of the experts.
        n_pinned_(static_cast<size_t>(
            share * (shape.n_slots > 0 ? shape.n_slots : shape.n_experts() / 4.0))),
        counts_(static_cast<size_t>(shape.n_experts()), 0) {}
  std::string_view name() const override { return "static-pin"; }

  void on_use(int expert, Precision used, int64_t step) override {
    if (first_step_ < 0) first_step_ = step;
    if (!frozen_ && step - first_step_ >= kLearnSteps) freeze();
    if (!frozen_) counts_[static_cast<size_t>(expert)]++;
    n_uses_++;
    groups_.set_rank(shape_.copy_of(expert, used), {static_cast<double>(n_uses_), n_uses_});
  }
  int choose_victim(const EvictionRequest& request) override {
    return groups_.least(request.pool,
                         [](int, int pinned, double key) { return std::pair(pinned, key); });
  }

 private:
  void freeze() {
    frozen_ = true;
    std::vector<int> order(counts_.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) {
      const int64_t na = counts_[static_cast<size_t>(a)], nb = counts_[static_cast<size_t>(b)];
      return na > nb || (na == nb && a < b);
    });
    order.resize(std::min(order.size(), n_pinned_));
    for (const int e : order) groups_.set_class(e, 1);
  }

  const size_t n_pinned_;
  std::vector<int64_t> counts_;  // [expert]
  bool frozen_ = false;
  int64_t first_step_ = -1, n_uses_ = 0;
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_static_pin_policy(const PolicyShape& shape,
                                                     std::string_view args) {
  double share = kDefaultShare;
  if (!args.empty()) {
    const char* last = args.data() + args.size();
    const auto [end, error] = std::from_chars(args.data(), last, share);
    if (error != std::errc() || end != last || !(share >= 0 && share <= 1))
      fail(Code::kInvalidArgument,
           "[experts] policy static-pin: expected a share of the slots in [0, 1], got '{}'", args);
  }
  return std::make_unique<StaticPinPolicy>(shape, share);
}

}  // namespace hob
