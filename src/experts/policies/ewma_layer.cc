// The farthest expected next use. With p the share of its layer's recent visits that chose an
// expert, and d the way from the present layer to its own as a share of all layers, the layer comes
// after d of a step and then chooses the expert after 1/p - 1 further steps on average:
//   time(e) = d(e) + 1/p(e) - 1      in steps
// One token at a time the frequencies decide (p is small); where a step needs nearly every expert
// (a prompt, many users) it is the distance: the layers just passed go first. That is Belady's
// choice on a cyclic scan, where both LRU and plain frequencies hit nothing.
// p = sum over visits v that chose e of kDecay^(now - v) / sum over all visits of kDecay^(now - v).
#include <cmath>
#include <utility>
#include <vector>

#include "experts/policies/policies.h"

namespace hob {
namespace {

// As ewma.cc: about 10 visits of a layer.
constexpr double kDecay = 0.9;
// Weights are kept as kDecay^-v, growing, so that a decision needs no power per expert. At this
// many visits beyond the base (kDecay^-4096 = 1e187) all are divided down.
constexpr int64_t kMaxVisits = 4096;

class EwmaLayerPolicy final : public ExpertPolicy {
 public:
  explicit EwmaLayerPolicy(const PolicyShape& shape)
      : n_layers_(shape.n_layers),
        layer_of_(shape.layer_of),
        weight_(shape.n_experts(), 0.0),
        last_use_(shape.n_experts(), 0) {}
  std::string_view name() const override { return "ewma-layer"; }

  void on_use(int expert, int64_t step) override {
    if (first_step_ < 0) first_step_ = base_step_ = step;
    if (step - base_step_ > kMaxVisits) rebase(step);
    weight_[static_cast<size_t>(expert)] +=
        std::pow(kDecay, -static_cast<double>(step - base_step_));
    last_use_[static_cast<size_t>(expert)] = ++n_uses_;
  }

  int choose_victim(const EvictionView& view) const override {
    // 1/p = total(visits) / weight. Layers behind the present one were visited in this step,
    // those ahead were not yet.
    const double now = total(view.step), before = total(view.step - 1);
    return least_valuable(view, [&](int32_t e) {
      const auto i = static_cast<size_t>(e);
      const int layer = layer_of_[i];
      const bool ahead = layer > view.layer;
      const int way = ahead ? layer - view.layer : layer - view.layer + n_layers_;
      const double time =
          static_cast<double>(way) / n_layers_ + (ahead ? before : now) / weight_[i];
      return std::pair(-time, last_use_[i]);
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
    for (double& w : weight_) w *= factor;
    base_step_ = step;
  }

  const int n_layers_;
  std::vector<int32_t> layer_of_;
  std::vector<double> weight_;  // [expert] sum of kDecay^-(v - base_step_)
  std::vector<int64_t> last_use_;
  int64_t n_uses_ = 0, first_step_ = -1, base_step_ = -1;
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_ewma_layer_policy(const PolicyShape& shape) {
  return std::make_unique<EwmaLayerPolicy>(shape);
}

}  // namespace hob
