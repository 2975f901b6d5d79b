// Decayed use frequency (LRFU): score(e, t) = sum over uses u of e of kDecay^(t - t_u). Global over
// layers and sequences. The scores outlive the residency: an expert that returns keeps its history.
#include <cmath>
#include <limits>

#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

// Per step. 0.9 had the best hit rate on recorded traces from 10 % capacity up (DESIGN decision 7);
// it remembers about 1 / (1 - 0.9) = 10 tokens.
constexpr double kDecay = 0.9;

// All scores decay by the same factor, so their order changes only at a use. It is kept in the
// logarithm:
//   rank(e) = ln score(e, t) + t * -ln kDecay,   the same for every t after the last use,
// so nothing has to be decayed at eviction, and 64-bit floats resolve it for 1e12 steps.
class EwmaPolicy final : public GroupedPolicy {
 public:
  explicit EwmaPolicy(const PolicyShape& shape) : GroupedPolicy(shape) {
    for (int e = 0; e < shape_.n_experts(); e++)
      set_rank_of_both(e, {-std::numeric_limits<double>::infinity(), 0});  // never used: score 0
  }
  std::string_view name() const override { return "ewma"; }

  void on_use(int expert, Precision, int64_t step) override {
    const double growth = static_cast<double>(step) * rate_;
    // ln(score decayed to `step` + 1), rescaled
    const double key = growth + std::log1p(std::exp(groups_.rank(expert).key - growth));
    set_rank_of_both(expert, {key, ++n_uses_});
  }
  int choose_victim(const EvictionRequest& request) override {
    return groups_.least(request.pool, [](int, int, double key) { return key; });
  }

 private:
  const double rate_ = -std::log(kDecay);
  int64_t n_uses_ = 0;
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_ewma_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<EwmaPolicy>(shape);
}

}  // namespace hob
