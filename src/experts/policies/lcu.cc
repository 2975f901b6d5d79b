// APEX's least-cost-used; the smallest goes. Ref: MoE-APEX (ASPLOS'26):
//   C(e) = H(e) + (bytes low / bytes high) L(e)        H, L: uses at high and low in this sequence
//   p(e) = C/T + 1/D   if e was used in the previous forward pass (or in this one), else C/T
//   D(e) = ((l_e - l_i + l_n) mod l_n) + 0.1
#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

enum Recency { kOld = 0, kRecent = 1, kClasses = 2 };

class LcuPolicy final : public GroupedPolicy {
 public:
  explicit LcuPolicy(const PolicyShape& shape)
      : GroupedPolicy(shape, kClasses), last_step_(static_cast<size_t>(shape.n_experts()), -1) {}
  std::string_view name() const override { return "lcu"; }

  void on_sequence_start() override {
    first_step_ = -1;
    for (int e = 0; e < shape_.n_experts(); e++) set_rank_of_both(e, {0, groups_.rank(e).tie});
    // What the last pass of the other sequence used is no forecast for this one.
    for (const auto* used : {&used_now_, &used_before_})
      for (const int e : *used) set_recency(e, kOld);
    used_now_.clear();
    used_before_.clear();
  }

  void on_use(int expert, Precision used, int64_t step) override {
    if (first_step_ < 0) first_step_ = step;
    advance(step);
    const double cost = used == Precision::kHigh ? 1 : shape_.low_ratio;
    set_rank_of_both(expert, {groups_.rank(expert).key + cost, ++n_uses_});
    last_step_[static_cast<size_t>(expert)] = step;
    set_recency(expert, kRecent);
    used_now_.push_back(expert);
  }

  int choose_victim(const EvictionRequest& request) override {
    advance(request.step);
    const auto t = static_cast<double>(first_step_ < 0 ? 1 : request.step - first_step_ + 1);
    const int n = shape_.n_layers;
    return groups_.least(request.pool, [&](int layer, int cls, double key) {
      const double distance = (layer - request.layer + n) % n + 0.1;
      return key / t + (cls == kRecent ? 1 / distance : 0);
    });
  }

 private:
  // A new step: what was used two steps ago and not since loses its bonus.
  void advance(int64_t step) {
    while (now_ < step) {
      if (used_now_.empty() && used_before_.empty()) {
        now_ = step;
        return;
      }
      now_++;
      for (const int e : used_before_)
        if (last_step_[static_cast<size_t>(e)] < now_ - 1) set_recency(e, kOld);
      used_before_.swap(used_now_);
      used_now_.clear();
    }
  }
  void set_recency(int expert, int cls) {
    groups_.set_class(expert, cls);
    groups_.set_class(shape_.copy_of(expert, Precision::kLow), cls);
  }

  std::vector<int64_t> last_step_;  // [expert]
  std::vector<int> used_now_, used_before_;
  int64_t n_uses_ = 0, first_step_ = -1, now_ = -1;
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_lcu_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<LcuPolicy>(shape);
}

}  // namespace hob
