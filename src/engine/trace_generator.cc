#include "engine/trace_generator.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>

#include "base/error.h"

namespace hob {
namespace {

// Ref: research notes, hobbit.md §5.4 and §5.1.
constexpr int kFirstLayers = 4;            // route nearly evenly
constexpr double kFirstLayersSkew = 0.15;  // of alpha
constexpr double kFirstLayersLoss = 0.10;  // of the predictor's accuracy
// Gate weight falls by this per rank (natural logarithm): .265 ... .106 over six ranks of Qwen3,
// .577 .423 for k = 2.
constexpr double kWeightFall = 0.183, kWeightFallTop2 = 0.31;
constexpr double kWeightJitter = 0.15;  // standard deviation of the logarithm
constexpr int kCalibrationSteps = 8, kCalibrationTokens = 150;

// Uniform and normal numbers that are the same with every standard library.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  double uniform() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53; }  // (0, 1)
  double normal() {
    return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform());
  }
  int below(int n) { return static_cast<int>(uniform() * n); }

 private:
  std::mt19937_64 engine_;
};

std::vector<double> random_scores(int n, Random& random) {
  std::vector<double> scores(static_cast<size_t>(n));
  for (double& s : scores) s = random.uniform();
  return scores;
}

class Layer {
 public:
  Layer(const TraceGeneratorOptions& o, int index, Random& random)
      : o_(o),
        alpha_(index < kFirstLayers ? o.alpha * kFirstLayersSkew : o.alpha),
        accuracy_(std::max(0.0, o.accuracy - (index < kFirstLayers ? kFirstLayersLoss : 0))),
        model_scores_(random_scores(o.n_experts, random)) {}

  // Another sequence: its order of popularity is drawn near the model's.
  void begin_turn(Random& random) {
    const auto n = static_cast<size_t>(o_.n_experts);
    const std::vector<double> own = random_scores(o_.n_experts, random);
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const auto score = [&](size_t e) {
        return o_.model_mix * model_scores_[e] + (1 - o_.model_mix) * own[e];
      };
      return score(a) > score(b) || (score(a) == score(b) && a < b);
    });
    popularity_.assign(n, 0);
    for (size_t rank = 0; rank < n; rank++)
      popularity_[order[rank]] = std::pow(static_cast<double>(rank + 1), -alpha_);
    calibrate(random);
  }

  // k distinct experts, in no order.
  const std::vector<int32_t>& next(Random& random) {
    std::vector<int32_t> chosen;
    for (const int32_t e : last_)
      if (random.uniform() < keep_) chosen.push_back(e);
    draw(chosen, random);
    // Any order: what is kept is no more important than what is new.
    for (size_t i = chosen.size(); i > 1; i--)
      std::swap(chosen[i - 1], chosen[static_cast<size_t>(random.below(static_cast<int>(i)))]);
    return last_ = std::move(chosen);
  }

  // What the predictor says instead of `expert`.
  int32_t predict(int32_t expert, std::span<const TraceChoice> chosen, Random& random) const {
    if (random.uniform() < accuracy_ || o_.n_experts == o_.top_k) return expert;
    while (true) {
      const int32_t e = random.below(o_.n_experts);
      if (std::none_of(chosen.begin(), chosen.end(),
                       [e](const TraceChoice& c) { return c.expert == e; }))
        return e;
    }
  }

 private:
  // Fills up to k, by popularity and without repetition: the k smallest of -ln(u) / popularity.
  // Ref: Efraimidis & Spirakis 2006.
  void draw(std::vector<int32_t>& chosen, Random& random) const {
    std::vector<std::pair<double, int32_t>> keys;
    for (int32_t e = 0; e < o_.n_experts; e++) {
      const double key = -std::log(random.uniform()) / popularity_[static_cast<size_t>(e)];
      if (std::find(chosen.begin(), chosen.end(), e) == chosen.end()) keys.emplace_back(key, e);
    }
    const size_t n = static_cast<size_t>(o_.top_k) - chosen.size();
    std::partial_sort(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(n), keys.end());
    for (size_t i = 0; i < n; i++) chosen.push_back(keys[i].second);
  }

  // Independent tokens overlap too, by popularity. An expert is kept as often as brings the overlap
  // to what was asked, by bisection on short runs.
  void calibrate(Random& random) {
    double low = 0, high = 1;
    for (int i = 0; i < kCalibrationSteps; i++) {
      keep_ = (low + high) / 2;
      (measure_overlap(random) < o_.overlap ? low : high) = keep_;
    }
    keep_ = (low + high) / 2;
    last_.clear();
  }
  double measure_overlap(Random& random) {
    int same = 0;
    last_.clear();
    for (int i = 0; i <= kCalibrationTokens; i++) {
      const std::vector<int32_t> before = last_;
      for (const int32_t e : next(random))
        same += std::find(before.begin(), before.end(), e) != before.end();
    }
    return static_cast<double>(same) / kCalibrationTokens / o_.top_k;
  }

  const TraceGeneratorOptions& o_;
  const double alpha_, accuracy_;
  const std::vector<double> model_scores_;
  std::vector<double> popularity_;
  std::vector<int32_t> last_;
  double keep_ = 0;
};

// Weights of ranks 0 .. k-1, falling, sum 1.
std::vector<float> draw_weights(int k, Random& random) {
  const double fall = k <= 2 ? kWeightFallTop2 : kWeightFall;
  std::vector<double> w(static_cast<size_t>(k));
  for (size_t i = 0; i < w.size(); i++)
    w[i] = std::exp(-fall * static_cast<double>(i) + kWeightJitter * random.normal());
  std::sort(w.rbegin(), w.rend());
  const double sum = std::accumulate(w.begin(), w.end(), 0.0);
  std::vector<float> weights;
  for (const double x : w) weights.push_back(static_cast<float>(x / sum));
  return weights;
}

void check(const TraceGeneratorOptions& o) {
  const auto share = [](const char* name, double x) {
    if (!(x >= 0 && x <= 1))
      fail(Code::kInvalidArgument, "[trace] {}: expected a share in [0, 1], got {}", name, x);
  };
  share("overlap", o.overlap);
  share("model mix", o.model_mix);
  share("accuracy", o.accuracy);
  if (!(o.alpha >= 0 && o.alpha <= 10))
    fail(Code::kInvalidArgument, "[trace] alpha: expected 0 to 10, got {}", o.alpha);
  if (o.n_layers < 1 || o.n_experts < 1 || o.top_k < 1 || o.top_k > o.n_experts ||
      o.n_decode_tok < 1 || o.n_prompt_tok < 0 || o.n_turns < 1)
    fail(Code::kInvalidArgument,
         "[trace] expected layers, experts, decode tokens and turns >= 1 and k of at most the "
         "experts, got {} layers, {} of {} experts, {} + {} tokens, {} turns",
         o.n_layers, o.top_k, o.n_experts, o.n_prompt_tok, o.n_decode_tok, o.n_turns);
}

void fill_token(RouteTrace& trace, int token, std::vector<Layer>& layers, Random& random) {
  const auto k = static_cast<size_t>(trace.top_k);
  for (int l = 0; l < trace.n_layers; l++) {
    Layer& layer = layers[static_cast<size_t>(l)];
    const std::vector<int32_t>& experts = layer.next(random);
    const std::vector<float> weights = draw_weights(trace.top_k, random);
    const size_t at = trace.index(token, l);
    for (size_t i = 0; i < k; i++) trace.choices[at + i] = {experts[i], weights[i]};
    for (size_t i = 0; i < k; i++)
      trace.predicted[at + i] =
          layer.predict(experts[i], std::span(trace.choices).subspan(at, k), random);
  }
}

}  // namespace

std::vector<RouteTrace> generate_route_traces(const TraceGeneratorOptions& o) {
  check(o);
  Random random(o.seed);
  std::vector<Layer> layers;
  for (int i = 0; i < o.n_layers; i++) layers.emplace_back(o, i, random);
  RouteTrace blank;
  blank.model = fmt::format("generated-overlap{:g}-alpha{:g}-seed{}", o.overlap, o.alpha, o.seed);
  blank.n_layers = o.n_layers;
  blank.n_experts = o.n_experts;
  blank.top_k = o.top_k;
  blank.n_prompt_tok = o.n_prompt_tok;
  blank.n_decode_tok = o.n_decode_tok;
  blank.expert_bytes.assign(static_cast<size_t>(o.n_layers), o.expert_bytes);
  blank.choices.resize(blank.index(blank.n_tok(), 0));
  blank.predicted.resize(blank.choices.size());
  std::vector<RouteTrace> turns;
  for (int turn = 0; turn < o.n_turns; turn++) {
    for (Layer& layer : layers) layer.begin_turn(random);
    turns.push_back(blank);
    for (int token = 0; token < blank.n_tok(); token++)
      fill_token(turns.back(), token, layers, random);
  }
  return turns;
}

}  // namespace hob
