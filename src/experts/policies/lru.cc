#include <vector>

#include "experts/policies/policies.h"

namespace hob {
namespace {

class LruPolicy final : public ExpertPolicy {
 public:
  explicit LruPolicy(const PolicyShape& shape) : last_use_(shape.n_experts(), 0) {}
  std::string_view name() const override { return "lru"; }

  void on_use(int expert, int64_t) override { last_use_[static_cast<size_t>(expert)] = ++n_uses_; }

  int choose_victim(const EvictionView& view) const override {
    return least_valuable(view, [this](int32_t e) { return last_use_[static_cast<size_t>(e)]; });
  }

 private:
  int64_t n_uses_ = 0;
  std::vector<int64_t> last_use_;  // [expert] serial number of the last use, 0 = never
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_lru_policy(const PolicyShape& shape) {
  return std::make_unique<LruPolicy>(shape);
}

}  // namespace hob
