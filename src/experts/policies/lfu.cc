// Counts of uses in this sequence; the smaller count goes, of equal ones the older use.
//   lfu: uses of the expert at any precision.
//   lhu: uses at the copy's own precision. HOBBIT's "least high-precision used": what was served
//        low does not make the high copy worth keeping (and the other way round for low copies).
#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

class CountPolicy final : public GroupedPolicy {
 public:
  CountPolicy(const PolicyShape& shape, bool per_precision)
      : GroupedPolicy(shape), per_precision_(per_precision) {}
  std::string_view name() const override { return per_precision_ ? "lhu" : "lfu"; }

  void on_sequence_start() override {
    for (int copy = 0; copy < shape_.n_copies(); copy++)
      groups_.set_rank(copy, {0, groups_.rank(copy).tie});
  }
  void on_use(int expert, Precision used, int64_t) override {
    n_uses_++;
    for (const Precision p : {Precision::kHigh, Precision::kLow})
      if (p == used || !per_precision_) count(shape_.copy_of(expert, p));
  }
  int choose_victim(const EvictionRequest& request) override {
    return groups_.least(request.pool, [](int, int, double key) { return key; });
  }

 private:
  void count(int copy) { groups_.set_rank(copy, {groups_.rank(copy).key + 1, n_uses_}); }

  const bool per_precision_;
  int64_t n_uses_ = 0;
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_lfu_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<CountPolicy>(shape, false);
}
std::unique_ptr<ExpertPolicy> make_lhu_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<CountPolicy>(shape, true);
}

}  // namespace hob
