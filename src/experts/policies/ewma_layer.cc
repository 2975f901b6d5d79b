// The farthest expected next use. With p the share of its layer's recent visits that chose an
// expert, and d the way from the present layer to its own as a share of all layers, the layer comes
// after d of a step and then chooses the expert after 1/p - 1 further steps on average:
//   time(e) = d(e) + 1/p(e) - 1      in steps
// One token at a time the frequencies decide (p is small); where a step needs nearly every expert
// (a prompt, many users) it is the distance: the layers just passed go first. That is Belady's
// choice on a cyclic scan, where both LRU and plain frequencies hit nothing.
// p = sum over visits v that chose e of kDecay^(now - v) / sum over all visits of kDecay^(now - v).
#include <cmath>
#include <limits>

#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

// As ewma.cc: about 10 visits of a layer.
constexpr double kDecay = 0.9;
// Weights are kept as kDecay^-v, growing, so that a decision needs no power per expert. At this
// many visits beyond the base (kDecay^-4096 = 1e187) all are divided down.
constexpr int64_t kMaxVisits = 4096;

// Key: the sum over an expert's uses of kDecay^-(v - base_step_).
class EwmaLayerPolicy final : public GroupedPolicy {
 public:
  using GroupedPolicy::GroupedPolicy;
  std::string_view name() const override { return "ewma-layer"; }

  void on_use(int expert, Precision, int64_t step) override {
    if (first_step_ < 0) first_step_ = base_step_ = step;
    if (step - base_step_ > kMaxVisits) rebase(step);
    if (step != step_) {
      step_ = step;
      weight_ = std::pow(kDecay, -static_cast<double>(step - base_step_));
    }
    set_rank_of_both(expert, {groups_.rank(expert).key + weight_, ++n_uses_});
  }

  int choose_victim(const EvictionRequest& request) override {
    // 1/p = total(visits) / weight. Layers behind the present one were visited in this step,
    // those ahead were not yet.
    if (request.step != totals_step_) {
      totals_step_ = request.step;
      now_ = total(request.step);
      before_ = total(request.step - 1);
    }
    const double per_layer = 1.0 / shape_.n_layers;
    return groups_.least(request.pool, [&](int layer, int, double key) {
      if (key <= 0) return -std::numeric_limits<double>::infinity();  // never used
      return -(layers_until(layer, request) * per_layer +
               (layer > request.layer ? before_ : now_) / key);
    });
  }

 private:
  // Sum over the visits up to `step` of their weights.
  double total(int64_t step) const {
    const double growth = 1 / kDecay;
    const auto n = static_cast<double>(step - base_step_ + 1);
    const auto n_all = static_cast<double>(step - first_step_ + 1);
    // Geometric series from the newest visit down.
    return std::pow(growth, n - 1) * (1 - std::pow(kDecay, n_all)) / (1 - kDecay);
  }

  void rebase(int64_t step) {
    const double factor = std::pow(kDecay, static_cast<double>(step - base_step_));
    for (int copy = 0; copy < shape_.n_copies(); copy++) {
      const CopyRank r = groups_.rank(copy);
      groups_.set_rank(copy, {r.key * factor, r.tie});
    }
    base_step_ = step;
    step_ = totals_step_ = -1;
  }

  int64_t n_uses_ = 0, first_step_ = -1, base_step_ = -1;
  int64_t step_ = -1;  // of the last use
  double weight_ = 1;  // of a use in it
  int64_t totals_step_ = -1;
  double now_ = 0, before_ = 0;  // total() at that step and before it
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_ewma_layer_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<EwmaLayerPolicy>(shape);
}

}  // namespace hob
