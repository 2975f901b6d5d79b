#include "experts/policies/belady.h"

#include <limits>

#include "experts/policies/copy_groups.h"

namespace hob {
namespace {

class BeladyPolicy final : public GroupedPolicy {
 public:
  BeladyPolicy(const PolicyShape& shape, std::vector<std::vector<int64_t>> future)
      : GroupedPolicy(shape), future_(std::move(future)), next_(future_.size(), 0) {
    future_.resize(static_cast<size_t>(shape_.n_experts()));
    next_.resize(future_.size(), 0);
    for (int e = 0; e < shape_.n_experts(); e++) update(e);
  }
  std::string_view name() const override { return "belady"; }

  void on_use(int expert, Precision, int64_t step) override {
    const auto e = static_cast<size_t>(expert);
    while (next_[e] < future_[e].size() && future_[e][next_[e]] <= step) next_[e]++;
    update(expert);
  }
  int choose_victim(const EvictionRequest& request) override {
    return groups_.least(request.pool, [](int, int, double key) { return key; });
  }

 private:
  // A use is known by its step and layer: -(step * n_layers + layer), so that the farthest is the
  // smallest.
  void update(int expert) {
    const auto e = static_cast<size_t>(expert);
    double key = -std::numeric_limits<double>::infinity();
    if (next_[e] < future_[e].size())
      key = -(static_cast<double>(future_[e][next_[e]]) * shape_.n_layers + shape_.layer_of[e]);
    set_rank_of_both(expert, {key, 0});
  }

  std::vector<std::vector<int64_t>> future_;  // [expert]
  std::vector<size_t> next_;                  // [expert] index of the next use
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_belady_policy(const PolicyShape& shape,
                                                 std::vector<std::vector<int64_t>> future) {
  return std::make_unique<BeladyPolicy>(shape, std::move(future));
}

}  // namespace hob
