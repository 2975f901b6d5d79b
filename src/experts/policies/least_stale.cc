// Staleness by the order of the layers, as in SpecMD's "least stale", with this definition: in a
// pass at layer l the copies of the layers up to l have had their turn and are stale; those of
// later layers still await theirs and are fresh. Stale ones go first; among equals the one that was
// loaded first (FIFO).
#include <utility>

#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

class LeastStalePolicy final : public GroupedPolicy {
 public:
  using GroupedPolicy::GroupedPolicy;
  std::string_view name() const override { return "least-stale"; }

  void on_use(int, Precision, int64_t) override {}
  void on_load(int copy) override {
    n_loads_++;
    groups_.set_rank(copy, {static_cast<double>(n_loads_), n_loads_});
  }
  int choose_victim(const EvictionRequest& request) override {
    return groups_.least(request.pool, [&](int layer, int, double key) {
      return std::pair(layer > request.layer, key);
    });
  }

 private:
  int64_t n_loads_ = 0;
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_least_stale_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<LeastStalePolicy>(shape);
}

}  // namespace hob
