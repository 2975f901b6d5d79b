// The copy whose last use is the longest ago goes. A copy that was never used goes before all.
#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

class LruPolicy final : public GroupedPolicy {
 public:
  using GroupedPolicy::GroupedPolicy;
  std::string_view name() const override { return "lru"; }

  void on_use(int expert, Precision used, int64_t) override {
    n_uses_++;
    groups_.set_rank(shape_.copy_of(expert, used), {static_cast<double>(n_uses_), n_uses_});
  }
  int choose_victim(const EvictionRequest& request) override {
    return groups_.least(request.pool, [](int, int, double key) { return key; });
  }

 private:
  int64_t n_uses_ = 0;
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_lru_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<LruPolicy>(shape);
}

}  // namespace hob
