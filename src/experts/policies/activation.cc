// Activation-aware, after MoE-Infinity (arXiv 2401.14361): a matrix of counts [layer, expert] of
// this sequence, a collection of those of past sequences. The past sequence that resembles this one
// most (mean over the layers seen of the cosine between rows) predicts what this one will use.
//   share(e)  = (count(e) + kPrior * past(e) / past passes) / (passes so far + kPrior)
//   value(e)  = (share(e) + epsilon) * (1 - (way(e) - 1) / l_n),  the smallest goes
// with way(e) = 1 .. l_n layers until its layer comes (l_n: the present one), so predictions for
// far layers count less. The past is a prior that weighs as much as kPrior passes: it decides at
// the start of a sequence, the sequence itself later. Without any past it is uniform.
#include <cmath>

#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

constexpr double kPrior = 16;     // passes
constexpr size_t kMostPast = 32;  // sequences; then the oldest is forgotten
constexpr double kEpsilon = 1e-8;

struct Matrix {
  std::vector<float> counts;  // [expert]
  std::vector<double> norm2;  // [layer] sum of squares of the row
  int64_t n_passes = 0;
};

class ActivationPolicy final : public GroupedPolicy {
 public:
  explicit ActivationPolicy(const PolicyShape& shape) : GroupedPolicy(shape) { now_ = blank(); }
  std::string_view name() const override { return "activation"; }

  void on_sequence_start() override {
    if (now_.n_passes == 0) return;
    if (past_.size() < kMostPast)
      past_.push_back({});
    else if (++oldest_ == kMostPast)
      oldest_ = 0;
    past_[past_.size() < kMostPast ? past_.size() - 1 : oldest_].matrix = std::move(now_);
    for (Past& p : past_) {
      p.dot.assign(static_cast<size_t>(shape_.n_layers), 0.0);
      p.similarity = 0;
    }
    now_ = blank();
    step_ = -1;
    match_ = -1;
    rerank();
  }

  void on_use(int expert, Precision, int64_t step) override {
    if (step != step_) begin_pass(step);
    const auto e = static_cast<size_t>(expert);
    const auto l = static_cast<size_t>(shape_.layer_of[e]);
    for (Past& p : past_) p.similarity -= cosine(p, l);
    now_.norm2[l] += 2.0 * now_.counts[e] + 1;  // (c + 1)^2 - c^2
    now_.counts[e]++;
    for (Past& p : past_) {
      p.dot[l] += p.matrix.counts[e];
      p.similarity += cosine(p, l);
    }
    update(expert, ++n_uses_);
  }

  int choose_victim(const EvictionRequest& request) override {
    const double n = static_cast<double>(now_.n_passes) + kPrior;
    return groups_.least(request.pool, [&](int layer, int, double key) {
      const double decay =
          1 - static_cast<double>(layers_until(layer, request) - 1) / shape_.n_layers;
      return (key / n + kEpsilon) * decay;
    });
  }

 private:
  struct Past {
    Matrix matrix;
    std::vector<double> dot;  // [layer] with this sequence's row
    double similarity = 0;    // sum over layers of the cosines; every past sees the same layers
  };

  Matrix blank() const {
    return {std::vector<float>(static_cast<size_t>(shape_.n_experts()), 0.f),
            std::vector<double>(static_cast<size_t>(shape_.n_layers), 0.0), 0};
  }
  double cosine(const Past& p, size_t layer) const {
    const double norm2 = p.matrix.norm2[layer] * now_.norm2[layer];
    return norm2 > 0 ? p.dot[layer] / std::sqrt(norm2) : 0;
  }
  // The match is looked up once per pass: a change of it moves every expert.
  void begin_pass(int64_t step) {
    step_ = step;
    now_.n_passes++;
    int best = -1;
    for (size_t i = 0; i < past_.size(); i++)
      if (best < 0 || past_[i].similarity >= past_[static_cast<size_t>(best)].similarity)
        best = static_cast<int>(i);
    if (best == match_) return;
    match_ = best;
    rerank();
  }
  void rerank() {
    for (int e = 0; e < shape_.n_experts(); e++) update(e, groups_.rank(e).tie);
  }
  void update(int expert, int64_t tie) {
    const auto e = static_cast<size_t>(expert);
    double key = now_.counts[e];
    if (match_ >= 0) {
      const Matrix& past = past_[static_cast<size_t>(match_)].matrix;
      key += kPrior * past.counts[e] / static_cast<double>(past.n_passes);
    }
    set_rank_of_both(expert, {key, tie});
  }

  Matrix now_;
  std::vector<Past> past_;
  size_t oldest_ = kMostPast - 1;
  int match_ = -1;
  int64_t step_ = -1, n_uses_ = 0;
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_activation_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<ActivationPolicy>(shape);
}

}  // namespace hob
